"""The live inbox: one tail per tenant and process, and streams that hold a position in it."""
