"""What this plugin offers: the static HTML report."""

from gen_core.hooks import hookimpl


@hookimpl
def register_reports(register):
    register(
        "html",
        options="gen_report.report_options:Html",
        build="gen_report.html:build",
        version=1,
        summary="One HTML file with every figure embedded; opens from disk, prints, reads on a phone.",
    )
