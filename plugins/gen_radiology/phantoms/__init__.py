"""Chests and heads that never were: drawn anatomy, rendered as CT and MRI with true masks."""
