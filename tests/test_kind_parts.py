"""Parts of single kinds of data, each by what an owner would notice if it were wrong."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Render, in_project
from test_configs import KINDS
from test_documents import steps

pytestmark = pytest.mark.slow

IMAGES = ["image_classification", "image_segmentation", "object_detection"]
RISES = {"acc", "auroc", "miou", "ap", "macro_f1", "r2"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_epoch_is_the_one_with_the_better_figure(kind: str) -> None:
    text = (ROOT / "template" / "kinds" / kind / "train.yaml").read_text()
    rule = yaml.safe_load(text.replace("{{ tracker }}", "none"))["checkpoint"]
    assert rule["mode"] == ("max" if rule["monitor"] in RISES else "min")


@pytest.mark.parametrize("value", [[], {}, None, 1.5])
def test_a_coco_id_of_another_type_is_named(render: Render, tmp_path: Path, value: object) -> None:
    rows: dict[str, list[object]] = {"images": [{"id": value}], "categories": [], "annotations": []}
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.data import coco
        from my_project.errors import UserError
        try:
            coco.read(Path(sys.argv[1]))
        except UserError as error:
            print(error)
    """
    said = in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout
    assert f"annotations.json: image number 1: the id {value!r} is not a number or text; give it its own" in said


def test_a_series_that_ends_with_the_calendar_is_named(render: Render, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,a\n9999-12-29,1\n9999-12-30,2\n9999-12-31,3\n")
    (tmp_path / "b.csv").write_text("time,a\n9999-10,1\n9999-11,2\n9999-12,3\n")
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.data.dataset import read_series
        from my_project.errors import UserError
        for name in ("a.csv", "b.csv"):
            try:
                print(len(read_series(Path(sys.argv[1], name)).later([0, 1])))
            except UserError as error:
                print(error)
    """
    advice = "the year 9999 is the last one; shift the times"
    assert in_project(render(data_kind="time_series"), "-c", code, tmp_path).stdout.splitlines() == [
        f"{tmp_path}/a.csv: no date comes after 9999-12-31: {advice}",
        f"{tmp_path}/b.csv: no date comes after 9999-12: {advice}",
    ]


def test_a_rate_that_takes_too_much_memory_to_convert_is_named(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys, wave
        from pathlib import Path
        from my_project.data.dataset import read_sound
        from my_project.errors import UserError
        for rate in (1, 44099, 44100, 1999999973):
            with wave.open(str(Path(sys.argv[1], f"{rate}.wav")), "wb") as file:
                file.setparams((1, 2, rate, 0, "NONE", ""))
                file.writeframes(bytes(200))
            try:
                print(len(read_sound(Path(sys.argv[1], f"{rate}.wav"), 16000, convert=True)))
            except UserError as error:
                print(str(error).partition("; use")[0])
    """
    assert in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout.splitlines() == [
        f"{tmp_path}/1.wav: 1 samples a second can't be converted to 16000",
        f"{tmp_path}/44099.wav: 44099 samples a second can't be converted to 16000",
        "37",
        f"{tmp_path}/1999999973.wav: 1999999973 samples a second can't be converted to 16000",
    ]


def test_rows_that_differ_only_in_an_ignored_column_are_duplicates(render: Render, tmp_path: Path) -> None:
    for split, number in (("train", 0), ("valid", 1), ("test", 2)):
        rows = "".join(f"{number}{i},{i + 10 * number},{i}\n" for i in range(1, 9))
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.csv").write_text(f"id,width,target\n{rows}{number}9,99,9\n")
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.data.options import Data
        from my_project.data.utils import check_folder
        print(*check_folder(Path(sys.argv[1]), Data(ignore=["id"]))[1], sep="\\n")
    """
    assert in_project(render(data_kind="tabular"), "-c", code, tmp_path).stdout.count("the same row is in train") == 2


def test_after_a_short_valid_the_test_forecasts_its_own_rows_alone(render: Render, tmp_path: Path) -> None:
    for split, first, count in (("train", 0, 40), ("valid", 40, 5), ("test", 45, 20)):
        (tmp_path / split).mkdir()
        rows = "".join(f"{number},{number}\n" for number in range(first, first + count))
        (tmp_path / split / "a.csv").write_text(f"time,a\n{rows}")
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.data.dataset import Windows
        from my_project.data.options import Data
        windows = Windows(Path(sys.argv[1]), "test", Data(context=12, horizon=4, season=4), [], None)
        print(min(future.min().item() for _, future in windows))
    """
    assert in_project(render(data_kind="time_series"), "-c", code, tmp_path).stdout == "45.0\n"


def test_month_ends_after_a_february_are_forecast_at_their_last_day(render: Render, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,a\n2023-12-31,1\n2024-01-31,2\n2024-02-29,3\n")
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.data import clock
        from my_project.data.dataset import read_series
        series = read_series(Path(sys.argv[1], "a.csv"))
        print(clock.write(clock.after(series.times, series.step, 1), series.last))
    """
    assert in_project(render(data_kind="time_series"), "-c", code, tmp_path).stdout == "2024-03-31\n"


def test_a_class_that_is_only_predicted_counts_in_macro_f1(render: Render) -> None:
    code = """if True:
        import torch
        from torch.nn import functional as F
        from my_project.task import Scores
        scores = Scores(2, "cpu")
        scores.update(F.one_hot(torch.tensor([0, 1])).float(), (None, torch.tensor([0, 0])))
        print(round(scores.compute()["macro_f1"], 4))
    """
    assert in_project(render(data_kind="text_classification"), "-c", code).stdout == "0.3333\n"


def test_images_of_16_bits_keep_their_brightness(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from my_project.data.dataset import read_image
        path = Path(sys.argv[1], "dark.png")
        Image.fromarray(np.full((8, 8), 6554, dtype=np.uint16)).save(path)
        print(round(read_image(path, size=8, channels=1).max().item(), 1))
    """
    assert in_project(render(), "-c", code, tmp_path).stdout == "0.1\n"


def test_float_images_up_to_255_are_not_white(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from my_project.data.dataset import read_image
        for value, kind in ((255.0, np.float32), (0.5, np.float32)):
            path = Path(sys.argv[1], "a.tif")
            Image.fromarray(np.full((8, 8), value, dtype=kind)).save(path)
            print(round(read_image(path, 8, 1).max().item(), 1))
    """
    assert in_project(render(), "-c", code, tmp_path).stdout.split() == ["1.0", "0.5"]


def test_a_turned_image_keeps_the_colour_of_its_paper(render: Render) -> None:
    code = """if True:
        import numpy as np, torch
        from my_project.transforms import random_affine
        for paper in (0.0, 0.9):
            image = torch.full((3, 20, 20), paper)
            image[:, 8:12, 8:12] = 0.5
            turned = random_affine(image, 0, np.random.default_rng(0), degrees=45)[0]
            print((turned[:, ::19, ::19] - paper).abs().max().item() < 1e-6)
    """
    assert in_project(render(), "-c", code).stdout.split() == ["True", "True"]


# Files as cameras, scanners and labelling tools write them; those that no reader accepts are empty.
COLOUR = """if True:
    import json, sys
    from pathlib import Path
    from PIL import Image
    from my_project.cli import main
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    sub = "cat" if kind == "image_classification" else "images"
    for number, split in enumerate(("train", "valid", "test")):
        place = folder / split / sub
        place.mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (300, 140), (9 * number, 9 * index, 0)).save(place / f"{index}.jpg")
        pages = [Image.new("RGB", (300, 140), (200, 50 * page, number)) for page in range(2)]
        pages[0].save(place / "4.tif", save_all=True, append_images=pages[1:])
        for name in ("a.heic", "b.HEIC", "c.svg", ".DS_Store"):
            (place / name).touch()
        if kind == "image_segmentation":
            (folder / split / "masks").mkdir()
            for index in range(5):
                mask = Image.new("L", (300, 140))
                mask.paste(255, (0, 0, 100, 100))
                mask.save(folder / split / "masks" / f"{index}.png")
            (folder / split / "masks" / "0.jpg").touch()
            (folder / "classes.txt").write_text("background\\nroad\\n")
        if kind == "object_detection":
            names = [*(f"{index}.jpg" for index in range(4)), "4.tif"]
            images = [{"id": i, "file_name": n, "width": 300, "height": 140} for i, n in enumerate(names)]
            boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(5)]
            classes = [{"id": 0, "name": "roboflow"}, {"id": 1, "name": "cat"}]
            content = {"images": images, "annotations": boxes, "categories": classes}
            (folder / split / "annotations.json").write_text(json.dumps(content))
    main(["check-data", str(folder)])
"""


@pytest.mark.parametrize("kind", IMAGES)
def test_checking_data_says_what_is_not_read_of_it(render: Render, tmp_path: Path, kind: str) -> None:
    done = in_project(render(data_kind=kind), "-c", COLOUR, tmp_path, kind)
    said = done.stdout + done.stderr
    assert "not read: 6 .heic, 3 .svg; the formats are .png, .jpg" in said
    assert "median size 300 x 140, smallest 300 x 140, largest 300 x 140" in said
    assert "data.channels=1 reads them as grey; for colour, set data.channels=3" in said
    assert "have several pages or frames; only the first is read" in said
    if kind == "image_classification":
        assert "data.image_size=20 loses detail; set data.image_size=140" in said
        assert "are more than twice as long as wide; only the middle square is read" in said
    if kind == "image_segmentation":
        assert "masks not read: 3 .jpg; the formats are .png" in said
        assert "no pixel is road; the value 255 means no class: write its number instead" in said
    if kind == "object_detection":
        assert "data.image_size=112 loses detail; set data.image_size=304" in said
        assert "category 'roboflow': has no boxes, or crowds only; add some or remove it from all splits" in said


def test_coco_of_common_tools_is_read_and_all_else_is_listed(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import json, sys
        from pathlib import Path
        from PIL import Image
        from my_project.data import coco
        from my_project.data.dataset import CocoFolder
        from my_project.data.utils import split_folder
        from my_project.errors import UserError
        folder = Path(sys.argv[1])
        (folder / "images").mkdir()
        turned = Image.Exif()
        turned[0x0112] = 6
        names = ["images/a.jpg", "images\\\\b.jpg", "c.jpg", "flat.jpg"]
        for grey, name in enumerate(("images/a.jpg", "images/b.jpg", "images/c.jpg", "flat.jpg")):
            Image.new("RGB", (64, 48), (40 * grey,) * 3).save(folder / name, exif=turned)
        images = [{"id": i, "file_name": n, "width": 64, "height": 48} for i, n in enumerate(names)]
        polygon = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[10, 20, 30, 20, 30, 40]]}
        content = {"images": images, "annotations": [polygon], "categories": [{"id": 1, "name": "cat"}]}
        (folder / "annotations.json").write_text(json.dumps(content))
        image, target = CocoFolder(folder, ["cat"], 64, 1)[0]
        print(target["boxes"].tolist(), target["size"].tolist())
        split_folder(folder, folder / "split", 0.25, 0.25)
        print(sum(len(coco.read(folder / "split" / part)) for part in ("train", "valid", "test")))
        content["annotations"] += [polygon | {"id": 2, "segmentation": {"counts": "RLE"}}]
        content["annotations"] += [polygon | {"id": 3, "bbox": [9, 9, 0, 9]}]
        (folder / "annotations.json").write_text(json.dumps(content))
        try:
            coco.read(folder)
        except UserError as error:
            print(str(error).replace(str(folder), ""))
        (folder / "annotations.json").rename(folder / "_annotations.coco.json")
        try:
            coco.read(folder)
        except UserError as error:
            print(str(error).replace(str(folder), ""))
    """
    wanted = "bbox should be [left, top, width, height], or segmentation polygons"
    assert in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout.splitlines() == [
        "[[10.0, 20.0, 30.0, 40.0]] [64.0, 48.0]",
        "4",
        f"/annotations.json: annotation 2: {wanted}, found None; fix or remove it",
        "/annotations.json: annotation 3: the box [9, 9, 0, 9] has no size; fix or remove it",
        "/annotations.json: no such file; rename _annotations.coco.json",
    ]


def test_an_image_without_detections_gives_the_best_score(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import torch
        from PIL import Image
        from my_project import task
        from my_project.boxes import Detections
        from my_project.config import load
        from my_project.options import Config
        settings = [f"run.images={sys.argv[1]}"]
        one = task.Task(load(Config, ["configs/train.yaml"], settings), torch.device("cpu"), {"classes": ["a"]})
        boxes = torch.tensor([[[8.0, 8, 16, 24]]])
        found = Detections(boxes, torch.full((1, 1), 0.39), torch.zeros(1, 1, dtype=torch.int64))
        task.detect = lambda *_: found
        path = Path(sys.argv[1], "one.png")
        Image.new("L", (64, 64)).save(path)
        print(*map(one.sentence, one.predict(lambda _: None, [str(path)])))
    """
    said = in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout
    assert "one.png: nothing (best score 39.0%; data.score is 40.0%), drawn in" in said


def test_pictures_of_masks_name_the_colours_and_have_no_padding(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import torch
        from my_project import task
        from my_project.config import load
        from my_project.data.dataset import collate
        from my_project.options import Config
        one = task.Task(load(Config, ["configs/train.yaml"]), torch.device("cpu"), {"classes": ["a", "b"]})
        task.plots.batch_grid = lambda tiles, titles, path: print(len(tiles), titles[-1])
        overlay = task.plots.overlay
        task.plots.overlay = lambda image, mask: print(tuple(image.shape)) or overlay(image, mask)
        sizes = ((20, 30), (40, 10))
        batch = collate([(torch.ones(1, *size), torch.ones(size, dtype=torch.int64)) for size in sizes])
        one.draw_batch(batch, Path(sys.argv[1]))
    """
    said = in_project(render(data_kind="image_segmentation"), "-c", code, tmp_path).stdout.splitlines()
    assert said == [*["(1, 20, 30)"] * 2, *["(1, 40, 10)"] * 2, "5 classes"]


def test_curves_mark_the_best_epoch_of_the_run(render: Render, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,valid_acc,learning_rate\n1,0.5,1\n2,0.9,1\n3,0.9,1\n4,0.7,1\n")
    (tmp_path / "config.yaml").write_text("checkpoint: {monitor: acc, mode: max}\n")
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.visualization import charts
        charts.write = lambda path, save: print(save.__self__.get_suptitle())
        charts.curves(Path(sys.argv[1], "metrics.csv"), Path("x.png"))
    """
    assert in_project(render(), "-c", code, tmp_path).stdout == "dotted: the best epoch, 2, by acc\n"


def test_letters_are_drawn_by_a_font_that_has_them(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from matplotlib.figure import Figure
        from matplotlib.font_manager import findfont, fontManager, get_font
        from my_project.visualization import charts, grid
        fontManager.ttflist = [e for e in fontManager.ttflist if e.name in ("DejaVu Sans", "STIXGeneral")]
        dejavu, stix = ({*get_font(findfont(name)).get_charmap()} for name in ("DejaVu Sans", "STIXGeneral"))
        letter = min(chr(code) for code in stix - dejavu if code > 0x900 and chr(code).isalpha())
        figure = Figure()
        title = figure.suptitle(letter)
        charts.write(Path(sys.argv[1], "a.png"), figure.savefig)
        print(title.get_fontfamily(), grid.font(letter).getname()[0], grid.font("cat").getname()[0])
        grid.batch_grid([[[[0.5]]]], ["\u732b"], Path(sys.argv[1], "b.png"))
    """
    done = in_project(render(), "-c", code, tmp_path, drawn=True)
    assert done.stdout == "['DejaVu Sans', 'STIXGeneral'] STIXGeneral DejaVu Sans\n"
    assert "no font has all letters of a picture; install a Noto font" in done.stderr


def test_the_mistakes_that_the_model_was_surest_of_come_first(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import torch
        from my_project import task
        from my_project.config import load
        from my_project.options import Config
        one = task.Task(load(Config, ["configs/train.yaml"]), torch.device("cpu"), {"classes": ["a", "b"]})
        task.plots.worst_mistakes = lambda mistakes, path: print(*(round(m[3], 2) for m in mistakes))
        task.plots.confusion_matrix = lambda *_: None
        logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
        one.draw_results([(logits, (torch.zeros(3, 1, 8, 8), torch.ones(3, dtype=torch.int64)))], Path(sys.argv[1]))
    """
    assert in_project(render(), "-c", code, tmp_path).stdout == "0.95 0.88 0.73\n"


def test_masks_of_files_with_one_name_do_not_overwrite_each_other(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import torch
        from PIL import Image
        from my_project import task
        from my_project.config import load
        from my_project.options import Config
        folder = Path(sys.argv[1])
        settings = [f"run.images={folder / 'images'}"]
        one = task.Task(load(Config, ["configs/train.yaml"], settings), torch.device("cpu"), {"classes": ["a", "b"]})
        for name in ("north", "south"):
            (folder / name).mkdir()
            Image.new("L", (8, 8)).save(folder / name / "1.png")
        found = one.predict(lambda images: torch.zeros(1, 2, 8, 8), [str(folder / "north"), str(folder / "south")])
        print(len({each["mask"] for each in found}))
    """
    assert in_project(render(data_kind="image_segmentation"), "-c", code, tmp_path).stdout == "2\n"


def test_a_mask_that_is_scaled_down_keeps_its_classes(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from my_project.data.dataset import read_pair
        folder = Path(sys.argv[1])
        Image.new("L", (64, 64)).save(folder / "image.png")
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[:, ::2] = 2
        Image.fromarray(mask).save(folder / "mask.png")
        print(read_pair(folder / "image.png", folder / "mask.png", 3, 1, 24)[1].unique().tolist())
    """
    assert in_project(render(data_kind="image_segmentation"), "-c", code, tmp_path).stdout == "[0, 2]\n"


def test_boxes_of_a_large_image_are_in_its_own_pixels(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import torch
        from PIL import Image
        from my_project import task
        from my_project.boxes import Detections
        from my_project.config import load
        from my_project.options import Config
        settings = ["data.image_size=64", f"run.images={sys.argv[1]}"]
        one = task.Task(load(Config, ["configs/train.yaml"], settings), torch.device("cpu"), {"classes": ["a"]})
        found = Detections(torch.tensor([[[8.0, 8, 16, 24]]]), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64))
        task.detect = lambda *_: found
        path = Path(sys.argv[1], "large.png")
        Image.new("L", (256, 256)).save(path)
        (answer,) = one.predict(lambda _: None, [str(path)])
        print(answer["objects"][0]["bbox"])
    """
    assert in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout == "[32.0, 32.0, 32.0, 64.0]\n"


CLOUDS = """if True:
    import sys
    from pathlib import Path
    from my_project.data.dataset import Clouds
    from my_project.errors import UserError
    bad = {
        "infinite": '{"points": [[0, 0]], "radius": 1e999}',
        "huge": f'{{"points": [[0, 1{"0" * 400}]], "radius": 1}}',
        "endless": f'{{"points": [[0, 1{"0" * 5000}]], "radius": 1}}',
        "deep": "[" * 100_000,
    }
    for name, text in bad.items():
        path = Path(sys.argv[1], f"{name}.json")
        path.write_text(text)
        try:
            Clouds(path, 10)[0]
        except UserError as error:
            assert str(path) in str(error), error
        else:
            raise AssertionError(name)
"""


def test_the_example_of_own_data_names_files_that_json_accepts(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(data_kind="custom"), tmp_path / "project")
    for step in steps((project / "docs" / "data.md").read_text()):
        if step.whole and step.path.startswith("src/"):
            (project / step.path).write_text(step.code)
    in_project(project, "-c", CLOUDS, tmp_path)
