"""Folders with annotations in COCO's format (Lin et al. 2014, arXiv 1405.0312; cocodataset.org/#format-data): boxes of objects.

Two layouts: COCO's own, and that of Roboflow's exports, which keep a file of annotations beside the pictures of each split.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpq_fixtures.errors import AssetError, nearest

BESIDE = "_annotations.coco.json"
LAYOUT = (
    f"annotations/instances_<split>.json with pictures in <split>/, as COCO has it, or <split>/{BESIDE} beside them, as Roboflow writes it"
)
COLUMNS = {"image": "image", "objects": "objects"}


def open_folder(folder: Path, split: str) -> tuple[Any, Path]:
    """Return the table of a split, a row for each picture, and the folder that its file names start from."""
    import datasets

    files = {path.stem.removeprefix("instances_"): path for path in sorted((folder / "annotations").glob("instances_*.json"))}
    files = {path.parent.name: path for path in sorted(folder.glob(f"*/{BESIDE}"))} | files
    if not files:
        raise AssetError(f"{folder} holds no annotations of COCO: expected {LAYOUT}")
    if split not in files:
        raise AssetError(f"{folder} has no annotations of the split {split!r}{nearest(split, files)}")
    if not (folder / split).is_dir():
        raise AssetError(f"there is no folder {folder / split} with the pictures of {files[split].name}")
    try:
        content = json.loads(files[split].read_text(encoding="utf-8"))
        names, columns = _columns(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise AssetError(f"{files[split]} cannot be read as COCO's annotations: {reason}") from error
    objects = {
        "bbox": datasets.List(datasets.List(datasets.Value("float64"))),
        "category": datasets.List(datasets.ClassLabel(names=names)),
        "iscrowd": datasets.List(datasets.Value("int64")),
    }
    features = datasets.Features({"image": datasets.Value("string"), "objects": objects})
    return datasets.Dataset.from_dict(columns, features=features), folder / split


def _columns(content: Mapping[str, Any]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the names of the categories in the order of their ids, and of each picture its file and its objects."""
    annotations = content["annotations"]
    used = {annotation["category_id"] for annotation in annotations}
    groups = {(other.get("supercategory"), other["id"]) for other in content["categories"]}
    categories = [
        category
        for category in sorted(content["categories"], key=lambda category: category["id"])
        # Roboflow adds one for the project, which no object has, above all others.
        if category["id"] in used or not any(above == category["name"] and own != category["id"] for above, own in groups)
    ]
    names = [str(category["name"]) for category in categories]
    if not names or len(set(names)) < len(names):
        raise ValueError("two categories have the same name" if names else "it has no categories")
    numbers = {category["id"]: number for number, category in enumerate(categories)}
    ids = Counter(image["id"] for image in content["images"])
    if shared := [one for one, count in ids.items() if count > 1]:
        raise ValueError(f"the id {shared[0]} stands for {ids[shared[0]]} images")
    objects: dict[Any, dict[str, list[Any]]] = {image["id"]: {"bbox": [], "category": [], "iscrowd": []} for image in content["images"]}
    for annotation in annotations:
        if annotation["category_id"] not in numbers or annotation["image_id"] not in objects:
            what = "category" if annotation["category_id"] not in numbers else "image"
            raise ValueError(f"the annotation {annotation.get('id')} is of the {what} {annotation[f'{what}_id']}, which there is not")
        own = objects[annotation["image_id"]]
        own["bbox"].append([float(side) for side in annotation["bbox"]])
        own["category"].append(numbers[annotation["category_id"]])
        own["iscrowd"].append(int(annotation.get("iscrowd", 0)))
    return names, {"image": [image["file_name"] for image in content["images"]], "objects": list(objects.values())}
