"""Which sizes a GAN can make: what is left when both sides are halved as often as they can be."""

from __future__ import annotations

from gen_core.errors import RecipeError

LEAST, MOST = 4, 16  # sides of the base


def base_of(size: tuple[int, int]) -> tuple[tuple[int, int], int] | None:
    """(base, levels) with size = base * 2^levels: halved while both sides are even and 8 or more.

    None where no halving is possible, or a side of the base is left above 16.
    """
    (h, w), levels = size, 0
    while h % 2 == 0 and w % 2 == 0 and min(h, w) >= 2 * LEAST:
        h, w, levels = h // 2, w // 2, levels + 1
    return ((h, w), levels) if levels and max(h, w) <= MOST else None


def base_of_latents(shape: tuple[int, ...], name: str) -> tuple[tuple[int, int], int]:
    """`base_of` the latents (c, d, h, w). Raises: RecipeError naming the size and the nearest ones that work."""
    _, d, h, w = shape
    if d != 1:
        raise RecipeError(f"[prior] {name} makes single slices, the latents are {d} deep: [volume] size = [1, H, W]")
    found = base_of((h, w))
    if found is None:
        near = " and ".join(f"{side} (try {nearest(side)})" for side in (h, w) if base_of((side, side)) is None)
        why = near or f"{h} and {w} cannot be halved together far enough"
        raise RecipeError(
            f"[prior] {name}: latents of {h} x {w}; each side must be a number from {LEAST} to {MOST} times the same "
            f"power of two, at least {2 * LEAST}: {why}"
        )
    return found


def nearest(side: int) -> int:
    """The nearest side that works, the larger of two."""
    works = (s for s in range(2 * LEAST, 2 * side + 2 * LEAST) if base_of((s, s)))
    return min(works, key=lambda s: (abs(s - side), -s))
