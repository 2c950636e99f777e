"""Images side by side, a row a class: arrays in, a PNG file's content out."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL, NAME, GAP = 56, 120, 4  # pixels: an image's side, the width of the names, between images


def contact_sheet(rows: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """The content of a PNG file.

    Args:
        rows: of each the name, and its images, [N, H, W] or [N, H, W, 3] uint8.
    """
    columns = max(len(images) for _, images in rows)
    sheet = Image.new("RGB", (NAME + columns * (CELL + GAP), len(rows) * (CELL + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (name, images) in enumerate(rows):
        top = row * (CELL + GAP)
        draw.text((4, top + CELL / 2), name[:14], fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            shown = Image.fromarray(image).resize((CELL, CELL), Image.Resampling.NEAREST).convert("RGB")
            sheet.paste(shown, (NAME + column * (CELL + GAP), top))
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()
