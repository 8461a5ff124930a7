"""Make the sample data of the tabular kind again: ``data/sample.zip`` and ``images/sample/``.

    python3 template/kinds/tabular/sample.py PLOTNINE_WHEEL

The source is the table ``diamonds`` of ggplot2, in the wheel of the Python package plotnine 0.15
(``plotnine/data/diamonds.csv``, MIT): 53,940 stones, their weight, measures and grades, and their price. Download the
wheel with ``pip download plotnine==0.15.9 --no-deps``; it doesn't have to be installed.

The same zlib writes the same bytes each time; another one may compress differently, but the files inside are equal.
"""

import argparse
import csv
import io
import zipfile
from pathlib import Path

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{tabular}}"
COLUMNS = ["carat", "cut", "color", "clarity", "depth", "table", "x", "y", "z", "price"]  # in our files
MEASURES = ("x", "y", "z")

# Every third of the remaining stones is used, in the order of the source. Of ten of these, one goes to test and one to
# valid. The source is sorted by price, in a few runs, so each split has all prices.
EVERY, TENTH = 3, {0: "test", 5: "valid"}

NOTICE = """\
Diamonds: weight, measures, grades and price of round cut stones.

Source:     plotnine 0.15.9, plotnine/data/diamonds.csv; it has the table from ggplot2, where it is called diamonds
Copyright:  Hassan Kibirige (plotnine), the ggplot2 core developer team (ggplot2)
Licence:    MIT, in LICENSE.txt beside this file
Changed:    {twins:,} rows that seem to repeat a stone are left out: those with equal weight, measures (length and width
            in any order), color and clarity. Of the other {single:,} rows, every third is kept: {total:,}
            ({counts}). A measure of 0 means a missing value: these cells are empty here.
            The column price is the last.

carat       weight, 0.2 g each
cut         Fair, Good, Very Good, Premium, Ideal
color       from D, the best, to J
clarity     from I1, the worst, over SI2, SI1, VS2, VS1, VVS2, VVS1, to IF
depth       total depth in percent of the mean of length and width
table       width of the top in percent of the widest point
x, y, z     length, width and depth in mm
price       US dollars, 326 to 18,823; the target

Before you trust a number:
- Place and date of the prices are not recorded, and prices have changed since. The highest price is 18,823 dollars.
- Weight explains most of the price, so good results here say little about other tables.
- Repeated stones were found by their measures. Some rows of one stone may remain, in two splits; some rows that were
  left out may have been different stones, most of them small.
- Some measures are typing errors (a stone of 5.15 x 31.8 mm in train). They are the same in the source.
"""


def read(wheel: zipfile.ZipFile) -> list[dict[str, str]]:
    """Return the rows of the source, without repeated stones, and with empty cells for measures of 0."""
    text = wheel.read("plotnine/data/diamonds.csv").decode()
    kept: dict[tuple[object, ...], dict[str, str]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        x, y, z = (float(row[name]) for name in MEASURES)
        stone = (row["carat"], *sorted((x, y)), z, row["color"], row["clarity"])
        # a stone without measures is identified by the whole row
        kept.setdefault(stone if x and y and z else tuple(row.values()), row)
    rows = list(kept.values())
    for row in rows:
        row.update({name: "" for name in MEASURES if float(row[name]) == 0})
    return rows


def table(rows: list[dict[str, str]], columns: list[str]) -> bytes:
    """Return a CSV file with these columns, lines ending in a line feed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def archive(rows: list[dict[str, str]], licence: bytes, twins: int) -> bytes:
    """Return the zip file's bytes: ``<split>/diamonds.csv``, ``NOTICE.txt`` and ``LICENSE.txt``."""
    splits: dict[str, list[dict[str, str]]] = {"train": [], "valid": [], "test": []}
    for index, row in enumerate(rows[::EVERY]):
        splits[TENTH.get(index % 10, "train")].append(row)
    notice = NOTICE.format(
        twins=twins,
        single=len(rows),
        total=sum(map(len, splits.values())),
        counts=", ".join(f"{split} {len(part):,}" for split, part in splits.items()),
    )
    files = {"NOTICE.txt": notice.encode(), "LICENSE.txt": licence}
    files |= {f"{split}/diamonds.csv": table(part, COLUMNS) for split, part in splits.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content)
    return buffer.getvalue()


def main() -> None:
    """Write the archive and the sample tables into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of the tabular kind.")
    parser.add_argument("wheel", type=Path, help="plotnine-0.15.9-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        rows = read(wheel)
        licence = next(wheel.read(name) for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
        source = wheel.read("plotnine/data/diamonds.csv").count(b"\n") - 1
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "data/sample.zip").write_bytes(archive(rows, licence, source - len(rows)))
    # Stones that are not in the archive. The first table has their prices, to compare with, and an unknown column of
    # names. The second has empty cells, another order of columns, and a cut that no training stone has.
    stones = [row | {"stone": f"A{index}"} for index, row in enumerate(rows[4001:40000:6000], 1)]
    (arguments.out / "images/sample/stones.csv").write_bytes(table(stones, ["stone", *COLUMNS]))
    gaps = [row | change for row, change in zip(rows[5002::12000], GAPS, strict=False)]
    columns = [name for name in reversed(COLUMNS) if name != "price"]
    (arguments.out / "images/sample/gaps.csv").write_bytes(table(gaps, columns))


GAPS = [{"depth": "", "table": ""}, {"x": "", "y": "", "z": "NA"}, {"cut": "Old European", "clarity": ""}]


if __name__ == "__main__":
    main()
