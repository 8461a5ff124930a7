"""Tables and series as spreadsheets, pandas and R write them, in `check-data`, `split-data` and `train`."""

import math
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import Render, in_project

FOR_CLASSES = "loss.name=CrossEntropyLoss checkpoint.monitor=auroc checkpoint.mode=max"


def spreadsheet(path: Path) -> Path:
    """A table as a spreadsheet with German settings saves it: a BOM, semicolons, decimal commas, CRLF."""
    lines = ["Nr;Gewicht;Verkauft;Sorte;Preis"]
    for i in range(60):
        weight, sort = f"{1 + i % 7},{i:02}" if i % 9 else "?", ("rot", "weiß", "NA")[i % 3]
        lines.append(f"{i};{weight};2024-{1 + i % 12:02}-{1 + i % 28:02};{sort};{i * i % 50},5")
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig", newline="")
    return path


def command(project: Path, *words: str | Path, ok: bool = True) -> str:
    done = in_project(project, "-m", "my_project", *words, ok=ok)
    return done.stdout + done.stderr


# --- tables ---


def test_a_table_of_a_spreadsheet_is_split_and_checked_as_options_say(render: Render, tmp_path: Path) -> None:
    project, source, folder = render(data_kind="tabular"), spreadsheet(tmp_path / "wein.csv"), tmp_path / "data"
    assert (
        command(project, "split-data", source, folder, "data.target=Preis") == f"{folder}: 48 train, 6 valid, 6 test\n"
    )
    said = command(project, "check-data", f"data.folder={folder}", "data.target=Preis", "data.ignore=[Nr]")
    assert said.splitlines()[-5:] == [
        "numbers: Gewicht",
        "categories: Sorte (2)",
        "dates, as numbers of days: Verkauft (else: data.categorical)",
        "decimal sign: a comma (data.decimal)",
        "delimiter: ';' (data.delimiter)",
    ]
    config = tmp_path / "own.yaml"
    config.write_text("data: {target: Preis, categorical: [Verkauft]}\nmodel: {name: mlp}\nloss: {name: MSELoss}\n")
    said = command(project, "check-data", folder, "--config", config, "data.categorical=[Nr]", ok=False)
    assert "categories: Nr (48), Sorte (2)" in said
    said = command(project, "check-data", folder, "--config", config, ok=False)
    assert "categories: Verkauft (" in said
    said = command(project, "check-data", folder, "data.target=Pries", ok=False)
    assert "data.target: " in said
    assert "no column 'Pries'; did you mean 'Preis'?" in said


def test_a_series_is_split_and_checked_as_options_say(render: Render, tmp_path: Path) -> None:
    project, source, folder = render(data_kind="time_series"), tmp_path / "load.csv", tmp_path / "data"
    rows = "".join(f"2024-01-{1 + i // 24:02} {i % 24:02}:00,{i if i % 7 else ''},sunny\n" for i in range(300))
    source.write_text(f"time,load,weather\n{rows}")
    settings = ["data.columns=[load]", "data.missing=interpolate"]
    assert command(project, "split-data", source, folder, settings[0]) == f"{folder}: 240 train, 30 valid, 30 test\n"
    assert "\ntimes: column 'time', 1 hour apart\n" in command(project, "check-data", folder, *settings)
    assert "no value; fill it in, or set data.missing=interpolate" in command(
        project, "check-data", folder, settings[0], ok=False
    )


def test_two_folders_are_refused_and_the_configs_folder_is_used(render: Render, tmp_path: Path) -> None:
    project = render()
    said = command(project, "check-data", "one", "two", ok=False)
    assert said == "error: give one folder, not 2: one two\n"
    said = command(project, "check-data", f"data.folder={tmp_path / 'none'}", ok=False)
    assert f"{tmp_path / 'none' / 'train'}: no such folder" in said


def table(folder: Path, header: str, rows: list[str]) -> Path:
    """The same rows in each split."""
    for split in ("train", "valid", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "t.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


REFUSED = {
    "31/01/2024,5": "column 'a': '31/01/2024' looks like a date; write dates as 2026-01-31, or list",
    "19-Sep-03,29.96": "column 'a': '19-Sep-03' looks like a date; write dates as 2026-01-31, or list",
    "Jan 1 2000,39.81": "column 'a': 'Jan 1 2000' looks like a date; write dates as 2026-01-31, or list",
    '"1,234",5': "column 'a': '1,234' is not a finite number (remove commas between thousands; if it is",
    "1,?": "no value for the target 'b' ('?': data.missing); add it, or remove the row",
}


@pytest.mark.parametrize("row", REFUSED)
def test_an_ambiguous_value_names_the_option_to_set(render: Render, tmp_path: Path, row: str) -> None:
    first = ["1,2", "3,4"] if "looks like a date" not in REFUSED[row] else []
    folder = table(tmp_path / "data", "a,b", [*first, row])
    said = command(render(data_kind="tabular"), "check-data", folder, "data.target=b", ok=False)
    assert f"{folder}/train/t.csv:{2 + len(first)}: {REFUSED[row]}" in said


def test_all_refused_columns_are_reported_at_once(render: Render, tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "a,b,c,y", ["1/2/24,x,,1", "1/3/24,3,,2"])
    said = command(render(data_kind="tabular"), "check-data", folder, "data.target=y", ok=False)
    assert [line.partition("; ")[0] for line in said.splitlines() if "column '" in line] == [
        f"error: {folder}/train/t.csv:2: column 'a': '1/2/24' looks like a date",
        f"error: {folder}/train/t.csv:2: column 'b': 'x' is not a finite number",
        "error: column 'c' is empty in all training rows",
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], f"'red' is not a finite number; fix it, or for classes set data.task=classification {FOR_CLASSES}"),
        (
            ["data.task=classification"],
            "data.task=classification does not go with loss.name=HuberLoss, checkpoint.monitor=rmse, "
            f"checkpoint.mode=min; set {FOR_CLASSES}",
        ),
        (
            ["data.task=classification", "loss.name=CrossEntropyLoss", "checkpoint.monitor=acc"],
            "data.task=classification does not go with checkpoint.mode=min; set checkpoint.mode=max",
        ),
    ],
)
def test_all_options_of_another_task_are_reported_at_once(
    render: Render, tmp_path: Path, settings: list[str], words: str
) -> None:
    folder = table(tmp_path / "data", "a,b", ["1,red", "2,blue"])
    own = [f"data.folder={folder}", "data.target=b", f"run.checkpoints={tmp_path}", f"run.images={tmp_path}"]
    said = command(render(data_kind="tabular"), "train", *own, *settings, ok=False)
    assert said.rstrip().endswith(words)


def test_rows_that_differ_in_an_ignored_column_stay_in_one_split(render: Render, tmp_path: Path) -> None:
    project, source = render(data_kind="tabular"), tmp_path / "t.csv"
    source.write_text("id,a,price\n" + "".join(f"{i},{i // 2},{i // 2}\n" for i in range(200)))
    settings = ["data.ignore=[id]", "data.target_log=false"]
    command(project, "split-data", source, tmp_path / "data", *settings)
    command(project, "check-data", tmp_path / "data", *settings)  # finds no row twice


def test_training_rows_are_not_kept_as_text(render: Render) -> None:
    code = """if True:
        import tracemalloc
        from my_project.data.columns import Columns, fit
        from my_project.data.options import Data
        from my_project.data.tables import Row
        def rows():
            for i in range(20000):
                yield Row(f"t.csv:{i}", {"a": str(i), "b": f"{i}.5", "c": f"x{i % 9}", "target": str(-i)})
        tracemalloc.start()
        Columns(fit(rows(), Data())).tensors(rows())
        print(tracemalloc.get_traced_memory()[1] < 8e6)
    """
    assert in_project(render(data_kind="tabular"), "-c", code).stdout == "True\n"


# --- series ---

HOUR = timedelta(hours=1)
PUBLIC = {  # the header, a function that writes row i, and the reported step of the times
    "pandas": ("date,meantemp", lambda i: f"{datetime(2013, 1, 1) + i * 24 * HOUR:%Y-%m-%d},{i}", "'date', 1 day"),
    "year": ("YEAR,SUNACTIVITY", lambda i: f"{1700 + i}.0,{abs(math.sin(i)):.1f}", "'YEAR', 1 step"),
    "month": ("Month,Passengers", lambda i: f"{1949 + i // 12}-{1 + i % 12:02},{100 + i % 7}", "'Month', 1 month"),
    "quarter": ("DATE,gdp", lambda i: f"{1959 + i // 4}Q{1 + i % 4},{i % 7}", "'DATE', 3 months"),
    "R": ('"rownames","Time","value"', lambda i: f'"{i + 1}",{1949 + i},{i % 7}', "'Time', 1 step"),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_time_column_is_detected_and_reported(render: Render, tmp_path: Path, name: str) -> None:
    (header, row, times), project = PUBLIC[name], render(data_kind="time_series")
    (tmp_path / "a.csv").write_text("\n".join([header, *map(row, range(100))]) + "\n")
    command(project, "split-data", tmp_path / "a.csv", tmp_path / "data")
    said = command(project, "check-data", tmp_path / "data")
    assert f"\ntimes: column {times} apart\n" in said


SLASHES = [f"{datetime(2010, 1, 1) + i * HOUR:%m/%d/%Y %H:%M},{i}" for i in range(40)]
LONG = [f"{datetime(2010, 1, 1) + i * 24 * HOUR:%Y-%m-%d},{name},{i}" for name in "AB" for i in range(40)]
UNREAD = {
    "day or month": (
        ["timestamp,load", *SLASHES],
        "line 2, column 'timestamp': '01/01/2010 00:00' is not a time in ISO 8601; "
        'set data.time_format="%d/%m/%Y %H:%M" or data.time_format="%m/%d/%Y %H:%M"',
    ),
    "days with the names of months, and volumes of which one reads as 20030919": (  # as matplotlib's msft.csv
        ["Date,Close,Volume", "19-Sep-03,29.96,92433800", "18-Sep-03,29.50,20030919", "17-Sep-03,28.85,47221600"],
        "line 2, column 'Date': '19-Sep-03' is not a time in ISO 8601; set data.time_format=\"%d-%b-%y\"",
    ),
    "months in front": (  # as elec_equip.csv of statsmodels
        ["DATE,value", "Jan-1-1995,66.19", "Feb-1-1995,69.02", "Mar-1-1995,72.58"],
        "line 2, column 'DATE': 'Jan-1-1995' is not a time in ISO 8601; set data.time_format=\"%b-%d-%Y\"",
    ),
    "long": (
        ["ds,unique_id,y", *LONG],
        "line 2: long format: the times repeat for each text in 'unique_id'; set data.series_column=\"unique_id\"",
    ),
    "year and quarter": (
        ["year,quarter,realgdp", *(f"{1959 + i // 4}.0,{1 + i % 4}.0,{i % 7}" for i in range(40))],
        "line 1: no column 'time', and no other contains times; set data.time_column, and data.time_format if the "
        "times are not ISO 8601; year and quarter become one column, as 1959Q1",
    ),
    "two": (
        ["start,end,y", *(f"2024-01-{1 + i:02},2024-01-{2 + i:02},{i % 7}" for i in range(20))],
        "line 1: no column 'time', and 'start' and 'end' contain times; set data.time_column",
    ),
    "no header": (
        [f"2024-01-{1 + i:02},{i}" for i in range(20)],
        "line 1: '2024-01-01' is not a name; add a line with names",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_unreadable_times_are_refused_with_advice(render: Render, tmp_path: Path, name: str) -> None:
    lines, words = UNREAD[name]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    said = command(render(data_kind="time_series"), "split-data", tmp_path / "a.csv", tmp_path / "data", ok=False)
    assert f"error: {tmp_path}/a.csv, {words}" in said


def test_forecast_times_have_the_format_of_the_data(render: Render, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join(["timestamp,load,note", *(f"{row},x" for row in SLASHES)]) + "\n")
    (tmp_path / "b.csv").write_text("when,gdp\n1959-Q2,1\n1959-Q3,2\n1959-Q4,4\n")
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.data import clock
        from my_project.data.dataset import read_series
        from my_project.data.options import Data
        for name, data in (
            ("a.csv", Data(time_format="%m/%d/%Y %H:%M", columns=["load"])),
            ("b.csv", Data()),
        ):
            series = read_series(Path(sys.argv[1], name), data)
            later = [clock.write(time, series.last, data.time_format) for time in series.later([1, 2])]
            print(series.time_column, series.columns, clock.describe(series.step), later)
    """
    assert in_project(render(data_kind="time_series"), "-c", code, tmp_path).stdout.splitlines() == [
        "timestamp ['load'] 1 hour ['01/02/2010 16:00', '01/02/2010 17:00']",
        "when ['gdp'] 3 months ['1960-Q1', '1960-Q2']",
    ]


def test_a_season_longer_than_the_context_is_refused_with_advice(render: Render) -> None:
    said = command(render(data_kind="time_series"), "check-data", "data.context=12", "data.season=52", ok=False)
    assert "data.season: should be at most data.context, which is 12; set data.context=52 or more, or" in said


def test_a_series_is_not_kept_as_text(render: Render, tmp_path: Path) -> None:
    rows = (f"{datetime(2000, 1, 1) + i * HOUR},{i}.5,{i % 9}\n" for i in range(20000))
    (tmp_path / "a.csv").write_text("time,a,b\n" + "".join(rows))
    code = """if True:
        import sys, tracemalloc
        from pathlib import Path
        from my_project.data.dataset import read_series
        tracemalloc.start()
        print(read_series(Path(sys.argv[1], "a.csv")).values.shape)
        print(tracemalloc.get_traced_memory()[1] < 4e6)
    """
    assert in_project(render(data_kind="time_series"), "-c", code, tmp_path).stdout == "(2, 20000)\nTrue\n"
