"""The lists of packages that recipes offer, and the rules of builds, as a start for admins."""

from django.db import migrations

MIB = 1024**2

# kind, key, name, packages, estimated size in MiB
LISTS = (
    ("base", "base", "In every base",
     "numpy pillow tqdm conda ipython psutil torch torchvision torchaudio", 0),
    ("jupyter", "jupyter", "Jupyter", "jupyter jupyterlab ipykernel ipywidgets notebook", 250),
    ("data_science", "data_science", "Data science",
     "pandas scipy scikit-learn matplotlib seaborn", 420),
    ("use_case", "ml", "General ML", "xgboost lightgbm catboost optuna shap", 900),
    ("use_case", "cv", "Computer vision",
     "timm albumentations opencv-python-headless kornia ultralytics", 350),
    ("use_case", "nlp", "NLP",
     "transformers datasets tokenizers accelerate sentencepiece peft safetensors evaluate", 450),
    ("use_case", "rl", "Reinforcement learning", "gymnasium stable-baselines3", 60),
    ("use_case", "audio", "Audio and speech", "librosa soundfile audiomentations", 250),
    ("use_case", "ts", "Time series", "statsmodels prophet darts", 500),
    ("use_case", "llm", "LLM and generative AI", "vllm bitsandbytes langchain einops", 6000),
)  # fmt: skip


def fill(apps, schema_editor):
    PackageList = apps.get_model("catalog", "PackageList")
    PackageList.objects.bulk_create(
        PackageList(
            kind=kind,
            key=key,
            label=label,
            packages="\n".join(packages.split()),
            estimate_bytes=size * MIB,
            position=position,
        )
        for position, (kind, key, label, packages, size) in enumerate(LISTS)
    )
    apps.get_model("catalog", "BuildPolicy").objects.create(pk=1)


def empty(apps, schema_editor):
    apps.get_model("catalog", "PackageList").objects.all().delete()
    apps.get_model("catalog", "BuildPolicy").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("catalog", "0002_custom_images")]
    operations = [migrations.RunPython(fill, empty)]
