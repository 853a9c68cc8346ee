"""Of which recipe, table and plugin weights are: words that stand in their file."""

from __future__ import annotations

from typing import Any

from gen_core.run.context import RunContext


def weights_header(ctx: RunContext, name: str) -> dict[str, Any]:
    """What a weights file says of the table that it belongs to."""
    table = ctx.recipe.table(name)
    return {
        "recipe": ctx.recipe.run.name,
        "table": name,
        "use": table.use,
        "version": str(table.component.version),
        "plugin": f"{table.component.distribution} {table.component.distribution_version}",
    }
