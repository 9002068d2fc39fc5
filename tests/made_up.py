"""Cards and evaluations of models that nobody trained."""

from trainyard.components.common.artifacts.evaluation import CalibrationBins, Evaluation, RuleResult
from trainyard.components.common.artifacts.model import Card, Input, TrainedOn, sha256_of_model


def made_up_card(**hyperparameters):
    """The card of a model for two classes."""
    return Card(
        architecture="made-up",
        input=Input(shape=(1, 1, 1)),
        classes=["0", "1"],
        parameters=7,
        hyperparameters=hyperparameters,
        dataset=TrainedOn(
            name="mnist",
            layout="npz",
            source=None,
            sha256=None,
            train_examples=100,
            test_examples=100,
            train_counts=[50, 50],
        ),
    )


def made_up_evaluation(model, passed=True):
    """An evaluation of a model folder."""
    text = f"accuracy 0.9700 >= 0.95: {'passed' if passed else 'failed'}"
    metrics = ("balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "calibration_error")
    weighted = ("weighted_precision", "weighted_recall", "weighted_f1")
    return Evaluation(
        **dict.fromkeys((*metrics, *weighted), 0.5),
        accuracy=0.97,
        loss=0.1,
        accuracy_interval=(0.9, 0.99),
        examples=100,
        labels_sha256="0f" * 32,
        passed=passed,
        rules=[RuleResult(metric="accuracy", value=0.97, at_least=0.95, passed=passed, text=text)],
        model_sha256=sha256_of_model(model),
        backend="LiteRT",
        classes=[],
        slices=[],
        confusion_matrix=[[49, 1], [2, 48]],
        calibration=CalibrationBins(count=[100], confidence=[0.9], accuracy=[0.97]),
    )
