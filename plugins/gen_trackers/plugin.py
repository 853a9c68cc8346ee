"""What this plugin offers: trackers."""

from gen_core.hooks import hookimpl


@hookimpl
def register_trackers(register):
    register(
        "csv",
        options="gen_trackers.tracker_options:Csv",
        build="gen_trackers.csv_table:CsvTable",
        version=1,
        summary="All curves and scores in one table, scalars.csv.",
    )
    register(
        "tensorboard",
        options="gen_trackers.tracker_options:TensorBoard",
        build="gen_trackers.tensorboard_events:TensorBoardEvents",
        version=1,
        summary="Curves, scores and settings for TensorBoard: event files in the run's folder.",
    )
    register(
        "wandb",
        options="gen_trackers.tracker_options:WeightsAndBiases",
        build="gen_trackers.wandb_offline:WandbOffline",
        version=1,
        summary="Curves, scores and settings for Weights & Biases, kept in the run's folder until `wandb sync`.",
    )
    register(
        "mlflow",
        options="gen_trackers.tracker_options:Mlflow",
        build="gen_trackers.mlflow_run:MlflowRun",
        version=1,
        summary="Curves, scores and settings in MLflow: a database in the run's folder, or a server.",
    )
