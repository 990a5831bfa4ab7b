"""`switchboard up`: all of Switchboard on one machine, every part from a wheel, every process a child of this one."""
