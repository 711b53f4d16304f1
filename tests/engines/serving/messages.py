"""Messages as OpenAI's clients send them."""

import base64
from io import BytesIO


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def png(picture) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def user(text: str, *urls: str) -> dict:
    """A user's message with its pictures last, as OpenAI's examples have it."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": text}, *pictures]}
