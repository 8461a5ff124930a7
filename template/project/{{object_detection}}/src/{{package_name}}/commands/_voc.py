"""Reads Pascal VOC's annotations for `import-data`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..errors import UserError
from ._annotations import (
    MAX_TEXT,
    SUFFIXES,
    Item,
    Report,
    Shape,
    drawn_on,
    find,
    is_file,
    numbers,
    read_text,
    safe,
    split_of,
)

SETS = re.compile("train|val|valid|test")  # not trainval, nor the lists of a class


def voc(source: Path, report: Report) -> Iterator[Item]:
    """Read Annotations/, JPEGImages/ and ImageSets/Main/; or .xml files beside their images."""
    found = [p for n in ("", "*/", "*/*/") for p in source.glob(f"{n}[Aa]nnotations")]
    if len(found) > 1:
        names = f"{found[0].parent} and {found[1].parent}"
        raise UserError(f"{source}: holds {names}; name one of them")
    root, folder = (found[0].parent, found[0]) if found else (source, source)
    places = (root / name for name in ("JPEGImages", "images") if found)
    images = next((place for place in places if place.is_dir()), folder)
    plan, listed = list[tuple[str, Path, str]](), dict[str, str]()
    for path in sorted((root / "ImageSets" / "Main").glob("*.txt")):
        if SETS.fullmatch(path.stem):
            for number, line in enumerate(read_text(path).splitlines(), start=1):
                with report.guard():
                    where, split = f"{path}, line {number}", split_of([path.stem])
                    if line.strip() and line[0] != "#":
                        stem = safe(where, re.sub(r"\s+-?[01]$", "", line.strip()))
                        if stem in listed:
                            also = f"{stem} is in {listed[stem]}, too"
                            raise UserError(f"{where}: {also}; remove one of the lines")
                        listed[stem] = path.name
                        plan.append((split, folder / f"{stem}.xml", where))
    files = find(folder, (".xml",))
    if listed and (rest := {*files} - {file for _, file, _ in plan}):
        report.notes.append(f"{root}: {len(rest)} annotations are in no split; left out")
    if not listed:
        splits = [split_of(file.relative_to(source).parts[:-1]) for file in files]
        plan = [(split, file, "") for split, file in zip(splits, files, strict=True)]
    if not plan:
        raise UserError(f"{source}: has no .xml files; VOC's are in Annotations/")
    for split, file, where in plan:
        with report.guard():
            if where and not is_file(file):
                raise UserError(f"{where}: there is no {file}; add it or remove the line")
            yield voc_item(split, file, folder, images, report)


def voc_item(split: str, file: Path, folder: Path, images: Path, report: Report) -> Item:
    """An image of VOC. Its boxes count pixels from 1 and include their last row and column."""
    root, shapes = read_xml(file), list[Shape]()
    stem = file.relative_to(folder).with_suffix("")
    name = root.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2]
    names = [
        stem.with_name(stem.name + end) for suffix in SUFFIXES for end in (suffix, suffix.upper())
    ]
    choices = [
        images / n for n in [*names, *([stem.parent / name] if name not in ("", "..") else [])]
    ]
    image = next((c for c in choices if c.suffix.lower() in SUFFIXES and is_file(c)), None)
    if image is None:
        raise UserError(f"{file}: has no image {stem}.* in {images}; add or remove it")
    size = drawn_on(f"{file}", image, *(root.findtext(f"size/{k}") for k in ("width", "height")))
    for number, row in enumerate(root.findall("object"), start=1):
        with report.guard():
            where = f"{file}: object {number}"
            if not (label := row.findtext("name", "").strip()):
                raise UserError(f"{where}: has no name; give it one")
            ends = (row.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
            left, top, right, bottom = numbers(where, ends)
            difficult = row.findtext("difficult", "").strip().lower() in ("1", "true")
            shapes.append(Shape(where, label, (left - 1, top - 1, right, bottom), ignore=difficult))
    return Item(split, image.relative_to(images).as_posix(), image, size, shapes)


def read_xml(path: Path) -> Element:
    """The root of an XML file; UserError if it isn't well-formed or has a DTD.

    A DTD defines entities, which may grow to gigabytes or name other files; annotations need none.
    """

    def refuse(*_: Any) -> None:
        raise UserError(f"{path}: has a DOCTYPE, which may define harmful entities; remove it")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        if path.stat().st_size > MAX_TEXT:
            raise UserError(f"{path}: has more than {MAX_TEXT:,} bytes; export it again")
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        raise UserError(f"{path}: not XML ({error}); fix it") from error
