"""Fine-tune the pretrained encoder on a task: the teacher of every method. `python -m pipelines.finetune TASK SEED`."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import paths


def main() -> None:
    """Write runs/<task>/finetune/<seed>/{model/, footprint.json, history.tsv}, the best dev score kept."""
    task_name, seed = sys.argv[1], int(sys.argv[2])
    settings = params.load()

    from openautoglm import artifact
    from openautoglm.distillation.data import encode
    from openautoglm.distillation.fit import Recipe, dev_score, fit
    from openautoglm.distillation.losses import task_loss
    from openautoglm.student import load_tokenizer, save_model
    from openautoglm.task import steps_of
    from pipelines import training
    from pipelines.data import load_task
    from pipelines.sources.packages import folder

    task, teacher, spec = load_task(task_name), settings.teacher, settings.task(task_name)
    source = folder(teacher.package) / teacher.folder
    tokenizer = load_tokenizer(source)
    train, dev = (encode(tokenizer, split, task.max_length) for split in (task.train, task.dev))
    made_from = {
        "teacher": teacher.model_dump(),
        "task": spec.model_dump(include={"epochs", "max_length", "metrics"}),
        "train": artifact.file_sha256(paths.split(task_name, "train")),
    }
    with training.run(task_name, "finetune", seed, made_from) as run:
        model = _encoder(source, task.outputs)
        fit(
            model,
            train,
            lambda batch: task_loss(model(**batch.inputs).logits, batch.labels, task.kind),
            Recipe(steps_of(spec.epochs, len(train), teacher.batch_size), teacher.learning_rate),
            stage="fine-tuning",
            score=lambda: dev_score(model, task, dev),
        )

    def fill(aside: Path) -> None:
        (aside / "model").mkdir()
        save_model(model.cpu(), aside / "model")
        tokenizer.save(str(aside / "model" / "tokenizer.json"))
        run.write(aside)

    training.finish(task_name, "finetune", seed, paths.finetuned(task_name, seed), fill)


def _encoder(source: Path, outputs: int):
    """The pretrained encoder with a fresh head; UserError where `source` holds none."""
    from transformers import AutoModelForSequenceClassification, logging

    logging.set_verbosity_error()  # it warns that the head is fresh, which is the point
    logging.disable_progress_bar()
    try:
        return AutoModelForSequenceClassification.from_pretrained(source, num_labels=outputs, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{source} holds no encoder that loads ({error}). Delete data/raw and run again.") from None


if __name__ == "__main__":
    stage(main)
