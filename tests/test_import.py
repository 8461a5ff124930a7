"""`import-data` writes the same boxes and masks from each format, completely or not at all, and names each fault.

docs/data.md of these kinds has the formats. The files were compared with what the readers of other programs return.
"""

import json
import os
from pathlib import Path

import pytest
from conftest import Render, in_project

pytestmark = pytest.mark.slow

# Six images of 64 x 48 with two objects in each but the last, which has none; written by each function below.
HEAD = """if True:
    import contextlib, io, json, os, random, shutil, sys
    from pathlib import Path
    import numpy as np
    from PIL import Image
    from my_project.__main__ import main
    base = Path(sys.argv[1])
    boxes = {f"{i}.png": [("cat", 4 + i, 6, 24, 30), ("dog", 30, 8, 60 - i, 40)] * (i < 5) for i in range(6)}
    def images(folder, names=boxes):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("RGB", (64, 48), (40 * int(name[0]), 0, 9)).save(folder / name)
    def call(*words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*map(str, words)])
        return code, (out.getvalue() + err.getvalue()).replace(str(base), "")
    def stamps(folder):
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    def fractions(l, t, r, b):
        return f"{(l + r) / 128} {(t + b) / 96} {(r - l) / 64} {(b - t) / 48}"
    def yolo(root):
        images(root / "images")
        (root / "labels").mkdir()
        for name, found in boxes.items():
            if name != "5.png":
                (root / "labels" / f"{name[0]}.txt").write_text(
                    "\\n".join(f"{2 * (n == 'dog')} {fractions(*box)}" for n, *box in found))
        names = {0: "cat", 1: "cow", 2: " dog", 3: "dog"}
        (root / "data.yaml").write_text(json.dumps({"path": "/moved/away", "train": "..\\\\images", "names": names}))
    def darknet(root):  # as CVAT writes it
        images(root / "obj_train_data")
        (root / "obj.names").write_text("cat\\ndog\\n")
        for name, found in boxes.items():
            text = "\\n".join(f"{int(n == 'dog')} {fractions(*box)}" for n, *box in found)
            (root / "obj_train_data" / f"{name[0]}.txt").write_text(text)
    def obj(n, l, t, r, b, more=""):
        box = f"<xmin>{l + 1}</xmin><ymin>{t + 1}</ymin><xmax>{r}</xmax><ymax>{b}</ymax>"
        return f"<object><name>{n}</name><bndbox>{box}</bndbox>{more}<part><name>x</name></part></object>"
    def voc(root):
        images(root / "JPEGImages")
        (root / "Annotations").mkdir()
        size = "<size><width>64</width><height>48</height></size>"
        for name, found in boxes.items():
            text = f"<annotation><filename>other.jpg</filename>{size}{''.join(obj(*o) for o in found)}</annotation>"
            (root / "Annotations" / f"{name[0]}.xml").write_text(text, encoding="utf-16" if name[0] == "1" else "utf-8")
    def labelme(root):
        images(root)
        for name, found in boxes.items():
            shapes = []
            for n, l, t, r, b in found:
                points = [[r, b], [l, t]] if n == "cat" else [[l, t], [r, t], [r, b], [l, b]]
                kind = "rectangle" if n == "cat" else "polygon"
                shapes.append({"label": f"{n}\\n", "points": points, "shape_type": kind})
            content = {"imagePath": f"..\\\\x\\\\{name}", "imageHeight": 48, "imageWidth": 64, "shapes": shapes}
            (root / f"{name[0]}.json").write_text(json.dumps(content | {"imageData": "A" * 9999}))
    def coco(root, splits=("train", "valid", "test")):
        ids = {"cat": 3, "dog": 1, "cow": 7}
        for index, split in enumerate(splits):
            own = [*boxes][2 * index : 2 * index + 2]
            images(root / split, own)
            rows = [{"image_id": name, "category_id": ids[n], "bbox": [l, t, r - l, b - t], "segmentation":
                [[l, t, r, t, r, b, l, b]]} for name in own for n, l, t, r, b in boxes[name]]
            content = {"images": [{"id": n, "file_name": n, "width": 64, "height": 48} for n in own],
                "annotations": rows, "categories": [{"id": i, "name": n} for n, i in ids.items()]}
            (root / split / "_annotations.coco.json").write_text(json.dumps(content))
"""


def script(body: str) -> str:
    return HEAD + body


def test_each_format_gives_the_same_boxes_and_passes_the_check(render: Render, tmp_path: Path) -> None:
    code = script("""
    for make in (yolo, darknet, voc, labelme, coco):
        source, to = base / "images" / make.__name__, base / f"{make.__name__}-data"
        make(source)
        before = stamps(source)
        form = {"darknet": "yolo"}.get(make.__name__, make.__name__)
        code, said = call("import-data", form, source, to, "--valid", 0.2, "--test", 0.2)
        assert code == 0, said
        found = {}
        for split in ("train", "valid", "test"):
            content = json.loads((to / split / "annotations.json").read_text())
            names = {row["id"]: row["name"] for row in content["categories"]}
            for image in content["images"]:
                rows = (row for row in content["annotations"] if row["image_id"] == image["id"])
                found[image["file_name"]] = [(names[row["category_id"]], *row["bbox"]) for row in rows]
        wanted = {k: [(n, l, t, r - l, b - t) for n, l, t, r, b in found] for k, found in boxes.items()}
        assert found.keys() == wanted.keys(), found
        for name in wanted:
            assert [row[0] for row in found[name]] == [row[0] for row in wanted[name]], found
            assert np.allclose([r[1:] for r in found[name]], [r[1:] for r in wanted[name]], atol=1e-9), found[name]
        assert stamps(source) == before
        print(make.__name__, len(content["categories"]), said.count("warning: "), call("check-data", to)[0])
        print(call("import-data", form, source, to)[1], end="")
    """)
    said = in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout.splitlines()
    taken = "{0}-data/train, {0}-data/valid, {0}-data/test: already exist; move them away first, or name a new folder"
    assert said == [
        # moved data.yaml, a class without objects, an image without labels, splits drawn; with check-data's exit status
        *("yolo 2 3 0", f"error: {taken.format('/yolo')}"),
        *("darknet 2 1 0", f"error: {taken.format('/darknet')}"),
        *("voc 2 1 0", f"error: {taken.format('/voc')}"),
        *("labelme 2 1 0", f"error: {taken.format('/labelme')}"),
        *("coco 2 1 0", f"error: {taken.format('/coco')}"),
    ]


def test_yolo_is_read_as_supervision_roboflow_and_cvat_write_it(render: Render, tmp_path: Path) -> None:
    code = script("""
    def show(name):
        code, said = call("import-data", "yolo", base / name, base / f"{name}-to", "--valid", 0.2, "--test", 0.2)
        print(code, *(line for line in said.splitlines() if "check it" not in line), sep="\\n")
    yolo(base / "supervision")
    (base / "supervision/data.yaml").write_text("names: [cat, cow, dog]\\nnc: 3")
    show("supervision")
    yolo(base / "roboflow/train")
    names = "names: [cat, cow, dog]\\ntrain: ../train/images\\nval: ../train/images/5.png\\ntest: ../test/images"
    (base / "roboflow/data.yaml").write_text(names)
    (base / "roboflow/train/data.yaml").unlink()
    show("roboflow")
    darknet(base / "cvat")
    (base / "cvat/obj_valid_data").mkdir()
    for path in (base / "cvat/obj_train_data").glob("[45].*"):
        path.rename(base / "cvat/obj_valid_data" / path.name)
    show("cvat")
    print(*sorted(p.name for p in (base / "cvat-to/valid/images").rglob("*.png")))
    darknet(base / "blank")
    (base / "blank/obj.names").write_text("cat\\n\\ndog\\n")
    show("blank")
    """)
    assert in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout.splitlines() == [
        "0",
        "/supervision-to: 4 train, 1 valid, 1 test",
        "warning: /supervision: 1 of 6 images without a label file: no boxes",
        "warning: /supervision: has no valid and test; drawn at random from its images",
        "warning: 1 classes have no objects and are left out: cow",
        "0",
        "/roboflow-to: 5 train, 1 valid, 1 test",
        "warning: /roboflow/data.yaml: test: /roboflow/../test/images: no such folder or file, so it is ignored",
        "warning: /roboflow: 2 of 7 images without a label file: no boxes",
        "warning: /roboflow: has no test; drawn at random from its images",
        "warning: 1 classes have no objects and are left out: cow",
        "0",
        "/cvat-to: 3 train, 2 valid, 1 test",
        "warning: /cvat: has no test; drawn at random from its images",
        "4.png 5.png",
        "2",
        "error: /blank/obj.names: names: one is empty; fix it",
    ]


def test_boxes_are_clipped_dropped_or_ignored_as_reported(render: Render, tmp_path: Path) -> None:
    code = script("""
    voc(base / "v")
    (base / "v/ImageSets/Main").mkdir(parents=True)
    for split, stems in (("train", "# by hand\\n0\\n1\\n2 \\n"), ("val", "3"), ("test", "4"), ("cat_train", "0 -1")):
        (base / f"v/ImageSets/Main/{split}.txt").write_text(stems)
    rows = [obj("cat", -9, 4, 20, 20), obj("cat", 3, 3, 3, 9), obj("cat", 70, 3, 80, 9), obj("dog", 1, 2, 64, 48)]
    rows += [obj("cow", 3, 3, 9, 9, "<difficult>1</difficult>"), obj("pig", 70, 3, 80, 9)]
    rows += [obj("dog", 1, 2, 64, 48), obj("dog", 5, 5, 9, 9, "<difficult>1</difficult><truncated>1</truncated>")]
    (base / "v/Annotations/0.xml").write_text(f"<a>{''.join(rows)}</a>")
    (base / "v/Annotations").rename(base / "v/annotations")
    (base / "v/JPEGImages").rename(base / "v/images")
    code, said = call("import-data", "voc", base / "v", base / "d", "--link")
    print(code, *(line for line in said.splitlines() if "check it" not in line), sep="\\n")
    content = json.loads((base / "d/train/annotations.json").read_text())
    print(*([*r["bbox"], r["iscrowd"]] for r in content["annotations"] if r["image_id"] == 1), sep="\\n")
    print((base / "d/train/images/0.png").is_symlink(), call("check-data", base / "d")[0])
    """)
    one = "warning: /v/annotations/0.xml: object"
    assert in_project(render(data_kind="object_detection"), "-c", code, tmp_path).stdout.splitlines() == [
        "0",
        "/d: 3 train, 1 valid, 1 test",
        "warning: /v: 1 annotations are in no split; left out",
        "warning: 2 classes have no objects and are left out: cow, pig",
        f"{one} 1: the box -9, 4, 20, 20 leaves the image of 64 x 48; clipped",
        f"{one} 2: the box 3, 3, 3, 9 has no size; dropped",
        f"{one} 3: the box 70, 3, 80, 9 is outside the image of 64 x 48; dropped",
        f"{one} 6: the box 70, 3, 80, 9 is outside the image of 64 x 48; dropped",
        f"{one} 7: the same as {one[9:]} 4; dropped",
        "[0.0, 4.0, 20.0, 16.0, 0]",
        "[1.0, 2.0, 63.0, 46.0, 0]",
        "[5.0, 5.0, 4.0, 4.0, 1]",  # difficult: ignored like COCO's crowds
        "True 0",
    ]


# A source, the code that damages it, and a part of the message.
FAULTS = {
    "broken XML": ("voc", "write('Annotations/0.xml', '<a><object>')", "/Annotations/0.xml: not XML (no element found"),
    "billion laughs": (
        "voc",
        "write('Annotations/0.xml', '<!DOCTYPE a [<!ENTITY b \"ha\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>')",
        "/Annotations/0.xml: has a DOCTYPE",
    ),
    "a DTD in UTF-16": (
        "voc",
        "(root / 'Annotations/0.xml').write_bytes('<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>'.encode('utf-16'))",
        "/Annotations/0.xml: has a DOCTYPE",
    ),
    "another size": (
        "voc",
        "write('Annotations/0.xml', '<a><size><width>640</width><height>480</height></size></a>')",
        "/Annotations/0.xml: says 640 x 480, but",
    ),
    "a set leads out": (
        "voc",
        "write('ImageSets/Main/train.txt', '../../secret')",
        "train.txt, line 1: unsafe file name '../../secret'",
    ),
    "an image in two sets": (
        "voc",
        "write('ImageSets/Main/train.txt', '0'), write('ImageSets/Main/val.txt', '1\\n0')",
        "/ImageSets/Main/val.txt, line 2: 0 is in train.txt, too",
    ),
    "NaN": ("yolo", "write('labels/0.txt', '0 nan 0.5 0.1 0.1')", "/labels/0.txt, line 1: 'nan' is not a number"),
    "10^400": ("yolo", "write('labels/0.txt', '0 .5 .5 .1 1' + '0' * 400)", "is not a number of pixels; fix it"),
    "pixels": ("yolo", "write('labels/0.txt', '0 20 30 5 5')", "/labels/0.txt, line 1: has pixels, not fractions"),
    "a wrong class": (
        "yolo",
        "write('labels/0.txt', '\\n4 .5 .5 .1 .1')",
        "/labels/0.txt, line 2: there is no class '4'",
    ),
    "half a class": ("yolo", "write('labels/0.txt', '0.5 .5 .5 .1 .1')", "line 1: there is no class '0.5'"),
    "six values": ("yolo", "write('labels/0.txt', '0 .5 .5 .1 .1 .9')", "line 1: has 6 values; should be 5"),
    "not UTF-8": ("yolo", "(root / 'labels/0.txt').write_bytes(b'\\xff\\xfe')", "/labels/0.txt: not UTF-8 text"),
    "no labels": ("yolo", "shutil.rmtree(root / 'labels')", "has no label files; they should be in labels/"),
    "an empty class": ("yolo", "write('data.yaml', 'names: [a, \\' \\']')", "/data.yaml: names: one is empty; fix it"),
    "a blank label": (
        "labelme",
        "change('0.json', shapes=[{'label': ' ', 'points': []}])",
        "/0.json: shape 1: has no label",
    ),
    "a blank category": (
        "coco",
        "change('train/_annotations.coco.json', categories=[{'id': 1, 'name': ''}])",
        "/_annotations.coco.json: category 1: id or name is wrong; fix it",
    ),
    "names with a gap": ("yolo", "write('data.yaml', 'train: images\\nnames: {0: a, 2: b}')", "numbered from 0 to 1"),
    "YAML that runs code": (
        "yolo",
        "write('data.yaml', 'names: !!python/object/apply:os.system [exit]')",
        "/data.yaml: not YAML (could not determine a constructor",
    ),
    "no image": ("yolo", "(root / 'images/0.png').write_text('hello')", "/images/0.png: not an image"),
    "an image that leads out": (
        "labelme",
        "change('0.json', imagePath='../../../../etc/passwd'), (root / '0.png').unlink()",
        "/0.json: its image '../../../../etc/passwd' is not in",
    ),
    "a huge number": ("labelme", "write('0.json', '{\"imageWidth\": 1' + '0' * 5000 + '}')", "/0.json: not JSON"),
    "levels": ("labelme", "write('0.json', '[' * 100000)", "/0.json: not JSON"),
    "Infinity": (
        "labelme",
        "change('0.json', shapes=[{'label': 'a', 'points': [[1, 2], [3, float('inf')], [2, 2]]}])",
        "/0.json: shape 1: 'inf' is not a number",
    ),
    "no label": ("labelme", "change('0.json', shapes=[{'points': []}])", "/0.json: shape 1: has no label"),
    "one image twice": (
        "labelme",
        "shutil.copy(root / '0.json', root / '1.json')",
        "/0.png: has the name of",
    ),
    "an absolute name": (
        "coco",
        "change('train/_annotations.coco.json', images=[{'id': 1, 'file_name': '/etc/passwd'}], annotations=[])",
        "image 1: unsafe file name '/etc/passwd'",
    ),
    "no category": (
        "coco",
        "change('train/_annotations.coco.json', categories=[])",
        "annotation number 1: there is no category_id '3'",
    ),
    "no list": ("coco", "change('train/_annotations.coco.json', images={})", "has no list of objects 'images'"),
}


def test_each_fault_is_one_clear_error_and_nothing_is_written(render: Render, tmp_path: Path) -> None:
    code = script("""
    faults = json.loads(Path(sys.argv[2]).read_text())
    for name, (make, change_by, _) in faults.items():
        root = base / make
        shutil.rmtree(root, ignore_errors=True)
        globals()[make](root)
        def write(name, text):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        def change(name, **values):
            write(name, json.dumps(json.loads((root / name).read_text()) | values))
        eval(change_by)
        code, said = call("import-data", make, root, base / "to")
        print(json.dumps([name, code, said, (base / "to").exists()]))
    """)
    (tmp_path / "faults.json").write_text(json.dumps(FAULTS))
    done = in_project(render(data_kind="object_detection"), "-c", code, tmp_path, tmp_path / "faults.json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in results] == [*FAULTS]
    for name, status, said, written in results:
        assert (status, written) == (2, False), (name, said)
        assert FAULTS[name][2] in said, (name, said)
        assert len(said) < 600, (name, said)
        assert all(line.startswith("error: ") for line in said.splitlines()), (name, said)


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("kind", ["object_detection", "image_segmentation"])
def test_a_mutated_source_is_imported_or_refused(render: Render, tmp_path: Path, kind: str, count: int) -> None:
    code = script("""
    rng, codes = random.Random(int(sys.argv[2])), []
    for make in map(globals().get, sys.argv[4:]):
        root, to = base / make.__name__, base / "to"
        make(root)
        files = [p for p in sorted(root.rglob("*")) if p.suffix in (".txt", ".xml", ".json", ".yaml")]
        for _ in range(int(sys.argv[3])):
            path = rng.choice(files)
            whole = path.read_bytes()
            at, end = sorted(rng.randrange(len(whole) + 1) for _ in "ab")
            new = [b"", b"\\0", b"-1e400", b"<a>", b"[[", b"null", b"../", whole[at:end] * 2, b"\\xff", b"9" * 5000]
            path.write_bytes(whole[:at] + rng.choice(new) + whole[rng.choice([at, at, at + 1, end]) :])
            code, said = call("import-data", make.__name__, root, to)
            assert code == 0 or code == 2 and not to.exists() and "error: " in said, (path.read_bytes(), said)
            if code == 0:
                found = call("check-data", to)[1]
                assert not any(word in found for word in ("leaves", "should be", "Traceback")), found
            codes.append(code)
            path.write_bytes(whole)
            shutil.rmtree(to, ignore_errors=True)
    print(0 in codes, 2 in codes)
    """)
    makes = ["labelme", "coco", *["yolo", "voc"] * (kind == "object_detection")]
    seed = os.environ["SEED"]
    done = in_project(render(data_kind=kind), "-c", code, tmp_path, seed, str(count), *makes, ok=False)
    assert done.stdout == "True True\n", f"SEED={seed}:\n{done.stdout}{done.stderr}"


def test_a_killed_import_leaves_nothing_that_looks_complete(render: Render, tmp_path: Path) -> None:
    code = script("""
    yolo(base / "s")
    if not (child := os.fork()):
        copies = []
        def copy(*paths):
            copies.append(paths)
            if len(copies) == 4:
                os._exit(9)
        shutil.copyfile = copy
        call("import-data", "yolo", base / "s", base / "to")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print([p.name[:11] for p in (base / "to").iterdir()])
    code, said = call("import-data", "yolo", base / "s", base / "to")
    print(code, "is left from an import that was killed; remove it" in said)
    """)
    done = in_project(render(data_kind="object_detection"), "-c", code, tmp_path)
    assert done.stdout == "9\n['.importing-']\n0 True\n"


def test_masks_are_drawn_from_polygons_and_run_lengths(render: Render, tmp_path: Path) -> None:
    code = script("""
    coco(base / "c")
    path = base / "c/train/_annotations.coco.json"
    content = json.loads(path.read_text())
    cat, dog, *rest = content["annotations"]
    inner = {"image_id": "0.png", "category_id": 7, "bbox": [40, 10, 10, 10]}
    inner |= {"segmentation": [[40, 10, 50, 10, 50, 20, 40, 20]]}
    dog["segmentation"] = {"size": [48, 64], "counts": [30 * 48 + 8, *[32, 16] * 29, 32, 4 * 48 + 8]}
    cat["segmentation"] = {"size": [48, 64], "counts": RLE}  # as pycocotools writes it
    path.write_text(json.dumps(content | {"annotations": [inner, cat, dog, *rest]}))
    labelme(base / "l")
    ignore = {"label": "__ignore__", "points": [[0, 0], [9, 9]], "shape_type": "rectangle"}
    content = json.loads((base / "l/0.json").read_text())
    (base / "l/0.png").rename(base / "l/0.PNG")
    (base / "l/0.json").write_text(json.dumps(content | {"shapes": [*content["shapes"], ignore]}))
    (base / "y/labels").mkdir(parents=True)
    images(base / "y/images")
    points = [(4, 6, 24, 6, 24, 30, 4, 30), (30, 8, 60, 8, 60, 40, 30, 40), (40, 10, 50, 10, 50, 20, 40, 20)]
    rows = [f"{2 - n} {' '.join(str(p / (64, 48)[i % 2]) for i, p in enumerate(points[n]))}" for n in (2, 0, 1)]
    (base / "y/labels/0.txt").write_text("\\n".join(rows))
    (base / "y/data.yaml").write_text("train: images\\nnames: [cow, dog, cat]")
    for make in ("coco", "yolo", "labelme"):
        code, said = call("import-data", make, base / make[0], base / make, "--valid", 0.2, "--test", 0.2)
        mask = np.asarray(Image.open(next((base / make).rglob("masks/0.png"))))
        values, counts = np.unique(mask, return_counts=True)
        print(code, (base / make / "classes.txt").read_text().split(), dict(zip(values.tolist(), counts.tolist())))
        print([int(mask[y, x]) for y, x in ((6, 4), (29, 23), (30, 24), (8, 30), (39, 59), (40, 60), (15, 45), (9, 9))])
    content = json.loads(path.read_text())
    dog["segmentation"]["counts"][0] += 1
    path.write_text(json.dumps(content | {"annotations": [dog, cat | {"segmentation": []}]}))
    print(call("import-data", "coco", base / "c", base / "e")[1], (base / "e").exists())
    (base / "y/labels/0.txt").write_text(f"{rows[0]}\\n0 .5 .5 .2 .2")
    print(call("import-data", "yolo", base / "y", base / "e")[1], (base / "e").exists())
    """).replace("RLE", repr("V6h0h00000000000000000000000000000000000000jk1"))
    file = "/c/train/_annotations.coco.json"
    assert in_project(render(data_kind="image_segmentation"), "-c", code, tmp_path).stdout.splitlines() == [
        # 20 x 24 and 30 x 32 pixels, with 10 x 10 of the smallest object on top, though it comes first
        "0 ['background', 'cat', 'dog', 'cow'] {0: 1632, 1: 480, 2: 860, 3: 100}",
        "[1, 1, 0, 2, 2, 0, 3, 1]",
        "0 ['background', 'cow', 'dog', 'cat'] {0: 1632, 1: 100, 2: 860, 3: 480}",
        "[3, 3, 0, 2, 2, 0, 1, 3]",
        # labelme includes the edges: 21 x 25, without what the last shape covers, and 31 x 33
        "0 ['background', 'cat', 'dog'] {0: 1448, 1: 501, 2: 1023, 255: 100}",
        "[255, 1, 1, 2, 2, 2, 2, 255]",
        f"error: {file}: annotation number 1: the run lengths do not fit the image; export it again",
        " False",
        "error: /y/labels/0.txt, line 2: has no polygon or mask, only a box; draw one",
        " False",
    ]


def test_masks_in_colours_or_of_0_and_255_become_classes(render: Render, tmp_path: Path) -> None:
    code = script("""
    def masks(root, pixels, mode=None, folders=("images", "masks")):
        images(root / folders[0])
        (root / folders[1]).mkdir()
        for name in boxes:
            Image.fromarray(np.resize(np.array(pixels, np.uint8), (48, 64, *np.shape(pixels)[1:]))).save(
                root / folders[1] / name)
    def show(name, *more):
        code, said = call("import-data", "masks", base / name, base / f"{name}-to", *more)
        if code:
            return print(code, *sorted(said.splitlines())[:1])
        mask = np.asarray(Image.open(next((base / f"{name}-to").rglob("masks/*.png"))))
        names = (base / f"{name}-to/classes.txt").read_text().split()
        print(len(names), names[1], mask[0, :4].tolist())
    masks(base / "binary", [0, 255])
    show("binary")
    masks(base / "colours", [(0, 0, 0), (128, 64, 128), (1, 2, 3), (224, 224, 192)])
    show("colours")
    (base / "colours/labelmap.txt").write_text("# label:color_rgb:parts:actions\\nsky:0,0,0::\\nroad:128,64,128::\\n")
    show("colours")
    with (base / "colours/labelmap.txt").open("a") as file:
        file.write("void:1,2,3::\\n")
    show("colours")
    masks(base / "voc", [0, 20, 255, 20], folders=("JPEGImages", "SegmentationClass"))
    lists = base / "voc/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\\n1\\n2")
    (lists / "val.txt").write_text("3")
    show("voc")
    (base / "voc/classes.txt").write_text("ground\\ntree")
    shutil.rmtree(base / "voc-to")
    show("voc")
    masks(base / "numbers", [0, 1, 2, 255])
    (base / "numbers/classes.txt").write_text("Void\\nsky\\nroad\\n")
    show("numbers")
    shutil.rmtree(base / "numbers-to")
    (base / "numbers/classes.txt").write_text("sky\\n\\nroad")
    show("numbers")
    (base / "voc/classes.txt").unlink()
    (base / "voc-to").mkdir()
    (base / "voc-to/classes.txt").write_text("mine")
    show("voc")
    print(os.listdir(base / "voc-to"))
    """)
    advice = "list the class of each colour in labelmap.txt, as road:128,64,128"
    assert in_project(render(data_kind="image_segmentation"), "-c", code, tmp_path).stdout.splitlines() == [
        "2 foreground [0, 1, 0, 1]",
        f"2 error: /colours/masks/0.png: holds colours (RGB), not numbers of classes; {advice}",
        "2 error: /colours/masks/0.png, row 1, column 3: the colour 1,2,3 belongs to no class; add it to labelmap.txt",
        "2 road [0, 1, 255, 255]",
        "21 aeroplane [0, 20, 255, 20]",
        "2 error: /voc/SegmentationClass/0.png: has the value 20; the classes are 0 to 1, and 255 for none",
        "2 road [255, 0, 1, 255]",
        "2 error: /numbers/classes.txt: has an empty line; write a class in each line",
        "2 error: /voc-to/classes.txt: has other classes; move it away first",
        "['classes.txt']",
    ]


def test_a_mask_drawn_on_stored_pixels_is_turned_like_its_image(render: Render, tmp_path: Path) -> None:
    code = script("""
    from PIL import ImageOps
    coco(base / "c")
    path = base / "c/train/_annotations.coco.json"
    content = json.loads(path.read_text())
    cat = content["annotations"][0] | {"bbox": [4, 6, 9, 5], "segmentation": [[4, 6, 13, 6, 13, 11, 4, 11]]}
    path.write_text(json.dumps(content | {"annotations": [cat, *content["annotations"][2:]]}))
    for way in range(5, 9):
        turned = Image.Exif()
        turned[0x0112] = way
        image = Image.new("L", (64, 48))
        image.paste(1, (4, 6, 13, 11))
        image.save(base / "c/train/0.png", exif=turned)
        assert call("import-data", "coco", base / "c", base / f"{way}")[0] == 0
        mask = np.asarray(Image.open(base / f"{way}/train/masks/0.png"))
        print(way, np.array_equal(mask, ImageOps.exif_transpose(Image.open(base / "c/train/0.png"))), mask.sum())
    """)
    done = in_project(render(data_kind="image_segmentation"), "-c", code, tmp_path)
    assert done.stdout.splitlines() == [f"{way} True 45" for way in range(5, 9)]
