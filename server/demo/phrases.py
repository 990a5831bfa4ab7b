"""What customers and agents say to each other. Every line of a customer has an answer; nothing here is about anybody."""

from dataclasses import dataclass

Turn = tuple[str, str]
"""What the customer writes, and what an agent answers."""


@dataclass(frozen=True)
class Dialogue:
    """Turns in their order; the last one is a farewell, after which an agent resolves the conversation."""

    turns: tuple[Turn, ...]


ORDINARY = (
    Dialogue(
        (
            ("Hi, is order 4711 on its way?", "Hi! It left our warehouse this morning and arrives tomorrow."),
            ("Could the driver leave it with the neighbour?", "Noted: number 12 will take it."),
            ("Perfect, thank you!", "You're welcome. Have a nice day!"),
        )
    ),
    Dialogue(
        (
            ("Do you have the blue chair in stock?", "Yes, four of them. Shall I put one aside for you?"),
            ("Yes please, until Friday.", "Done. It waits at the counter under your name."),
            ("Wonderful, thanks", "See you on Friday!"),
        )
    ),
    Dialogue(
        (
            ("I was charged twice for my last invoice.", "I'm sorry about that. Which amount do you see twice?"),
            ("49.90, on Monday and on Tuesday", "Found it. The second one goes back to you today."),
            ("That was quick, thank you", "Gladly. The bank needs two days."),
        )
    ),
    Dialogue(
        (
            ("How late are you open today?", "Until eight in the evening."),
            ("And tomorrow?", "On Sundays from ten to four."),
            ("Great, thanks!", "See you!"),
        )
    ),
)

IMPATIENT = (
    Dialogue(
        (
            ("hello", "Hello! How can I help?"),
            ("anyone there", "I'm here. What is it about?"),
            ("my parcel!!", "Let me look at your parcel."),
            ("still waiting", "It is in the van and comes before noon."),
            ("ok thx", "Thank you for your patience."),
        )
    ),
    Dialogue(
        (
            ("??", "Hello, what can I do for you?"),
            ("the code", "Which code do you mean?"),
            ("for the door", "It is on its way to you by e-mail."),
            ("got it", "Good."),
        )
    ),
)

MORNING = (
    Dialogue(
        (
            ("Good morning, can I still change the delivery date?", "Yes, until it is packed. To which day?"),
            ("Sorry, I was in a meeting. Thursday would be good.", "Thursday between nine and noon it is."),
            ("Thanks for waiting for me", "Any time."),
        )
    ),
)

READER = (Dialogue((("Please send me the opening hours of the workshop.", "Monday to Friday, eight to five."),)),)

POLYGLOT = (
    Dialogue(
        (
            ("¡Hola! ¿Tienen esto en rojo? 🌶️", "¡Hola! Sí, en rojo y en granate. 🌶️"),
            ("Entonces rojo, por favor 😊", "¡Apuntado!"),
            ("¡Mil gracias! 🙏", "¡A ti! 👋"),
        )
    ),
    Dialogue(
        (
            ("こんにちは、配送はいつですか?", "こんにちは。明日の午前中です。"),
            ("ありがとうございます 🙇", "どういたしまして。"),
        )
    ),
    Dialogue(
        (
            ("مرحبا، هل المتجر مفتوح اليوم؟", "مرحبا، نعم حتى الثامنة مساء."),
            ("شكرا جزيلا", "على الرحب والسعة."),
        )
    ),
    Dialogue(
        (
            ("Grüezi, funktioniert der Gutschein auch online? 🎁", "Grüezi! Ja, einfach den Code eingeben. 🎁"),
            ("Супер, спасибо! 👍", "Пожалуйста!"),
        )
    ),
)

NAG = ("Hello?", "I'm with you in a moment.")

NAMES = (
    "Mia Novak", "Tom Okafor", "Lena Haddad", "Yuki Tanaka", "Paul Meyer", "Zoé Laurent", "Omar Aziz", "Nina Petrov",
    "Juan Ortega", "Ella Lind", "Ravi Menon", "Sara Conti", "Finn Byrne", "Aylin Kaya", "Chen Wei", "Ida Holm",
    "Leo Silva", "Marta Kos", "Noah Adler", "Rosa Vidal", "Emre Aksoy", "Lucy Hart", "Jonas Berg", "Amira Said",
)  # fmt: skip

_EVERY = (*ORDINARY, *IMPATIENT, *MORNING, *READER, *POLYGLOT)
_ANSWERS = {line: answer for dialogue in _EVERY for line, answer in dialogue.turns} | {NAG[0]: NAG[1]}
_FAREWELLS = frozenset(dialogue.turns[-1][0] for dialogue in _EVERY if len(dialogue.turns) > 1)


def answer_to(line: str) -> str:
    """What an agent answers to the last line of a customer."""
    return _ANSWERS.get(line, "One moment, please.")


def is_farewell(line: str) -> bool:
    """Whether nothing is open any more after this line of a customer."""
    return line in _FAREWELLS


def name_of(number: int) -> str:
    """A name for the customer with that number, each another one."""
    name = NAMES[number % len(NAMES)]
    return name if number < len(NAMES) else f"{name} {number // len(NAMES) + 1}"
