"""Make the sample data of the text classification kind again: ``data/sample.zip`` and ``images/sample/``.

    pip download django==5.2.19 --no-deps
    python3 template/kinds/text_classification/sample.py django-5.2.19-py3-none-any.whl

The source is Django's message catalogs (BSD-3-Clause): what the framework says to its users, in many languages. The
classes are 20 of the languages. The same wheel gives the same bytes each time.
"""

import argparse
import ast
import hashlib
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{text_classification}}"
VERSION = "5.2.19"

# Some are easily confused: Danish and Norwegian; Spanish, Galician and Portuguese; Czech and Slovak.
# All are written in Latin or Cyrillic letters, which the font of the plots has.
LANGUAGES = {
    "bg": "bulgarian", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "en": "english", "es": "spanish",
    "et": "estonian", "fi": "finnish", "fr": "french", "gl": "galician", "it": "italian", "nb": "norwegian",
    "nl": "dutch", "pl": "polish", "pt": "portuguese", "ru": "russian", "sk": "slovak", "sv": "swedish",
    "uk": "ukrainian",
}  # fmt: skip
CATALOG = re.compile(r"django/(?:conf|contrib/\w+)/locale/(\w+)/LC_MESSAGES/django(?:js)?\.po")
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w*\}")
MARKUP = re.compile(r"[<>\n]|&\w+;|\bhttps?:")
SHARES = {"test": 0.16, "valid": 0.08}  # of the messages; the rest goes to train
LETTERS = 10  # the minimum in a text
LARGE = 20  # a group of at least this many messages goes to train
ALIKE = 0.5  # two English messages that share at least this part of their words go to the same split
SAMPLES = ("danish", "portuguese", "ukrainian")  # the languages of images/sample/
SAMPLE_LINES = 3  # messages of plain words in each of them

NOTICE = """\
Messages of the web framework Django in {languages} languages.

Source:     Django {version}, the catalogs django/conf/locale and django/contrib/*/locale (*.po)
Copyright:  Django Software Foundation, individual contributors, and the translators of each catalog
Licence:    BSD-3-Clause, in LICENSE.txt beside this file
Changed:    {total} texts are kept, one per line: {counts}.
            Placeholders such as %(name)s have become an ellipsis (…), white space a single space, and letters are
            composed (NFC). Left out: messages with markup, fuzzy translations, texts of fewer than {letters} letters,
            and texts that are the same in two languages, ignoring case. Of plurals, only the first form is kept.

Before you trust a number:
- A message and its translations are in one split, together with messages that share half of their English words. But
  all splits have the same topics and the same translators.
- The texts are short user-interface messages, with a median of {median} characters; letters or novels are different.
  For a language that isn't among the {languages}, the model still predicts one of them.
- Texts that are the same in two languages are left out, because they can't be classified. Real data have such texts,
  most of them in Danish and Norwegian.
- English is the original. In the translations, the names of Django's own parts stay English.
- The test split has {test} texts: one mistake is {percent:.2f} %. It shows that the code learns, and is too small to
  compare models.
"""


def read_catalog(text: str) -> dict[tuple[str, str], str]:
    """Return the messages of a .po file: (context, English) -> translation, empty where there is none.

    Fuzzy and obsolete ones are left out; of plurals, the first form is kept.
    """
    messages = {}
    for block in re.split(r"\n\s*\n", text):
        if re.search(r"^#,.*\bfuzzy\b", block, re.MULTILINE):
            continue
        parts: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            found = re.match(r'(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)\s+)?(".*")\s*$', line)
            if found:
                key = found[1] or key
                parts[key] = parts.get(key, "") + ast.literal_eval(found[2])
        if parts.get("msgid"):
            messages[parts.get("msgctxt", ""), parts["msgid"]] = parts.get("msgstr", parts.get("msgstr[0]", ""))
    return messages


def clean(text: str) -> str:
    """Return the text on one line without placeholders, or nothing if it has markup or too few letters."""
    if MARKUP.search(text):
        return ""
    text = unicodedata.normalize("NFC", " ".join(PLACEHOLDER.sub("…", text).split()))
    return text if sum(map(str.isalpha, text)) >= LETTERS else ""


def read_messages(wheel: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    """Return for each English message its text in each language, without texts of two languages and duplicates."""
    messages: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(wheel.namelist()):
        catalog = CATALOG.fullmatch(name)
        if catalog and catalog[1] in LANGUAGES:
            for (_, english), text in read_catalog(wheel.read(name).decode()).items():
                if text := clean(english if catalog[1] == "en" else text):
                    messages[english].setdefault(LANGUAGES[catalog[1]], text)
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for english, texts in messages.items():
        for language, text in texts.items():
            places[text.casefold()].append((language, english))
    for same in places.values():
        shared = len({language for language, _ in same}) > 1
        for language, english in same if shared else sorted(same)[1:]:
            del messages[english][language]
    return {english: texts for english, texts in sorted(messages.items()) if texts}


def groups(messages: list[str]) -> list[list[str]]:
    """Group the messages: two that share half of their words are in one group, directly or through others."""
    words = {message: frozenset(re.findall(r"\w+", PLACEHOLDER.sub(" ", message.lower()))) for message in messages}
    found: list[list[str]] = []
    for message in messages:
        mine = words[message]
        near = [g for g in found if any(len(mine & words[m]) >= ALIKE * len(mine | words[m]) for m in g)]
        found = [g for g in found if g not in near] + [[message, *(m for g in near for m in g)]]
    return sorted(found, key=lambda group: hashlib.sha256(min(group).encode()).digest())  # in effect a random order


def split(messages: dict[str, dict[str, str]]) -> tuple[dict[str, dict[str, list[str]]], dict[str, list[str]]]:
    """Return the texts by split and language, and those of images/sample/, which are in no split."""
    parts: dict[str, list[str]] = {"sample": [], "test": [], "valid": [], "train": []}
    for group in groups(list(messages)):
        plain = all({*SAMPLES} <= {*messages[m]} and re.fullmatch(r"[\w ,.]{30,}", m) for m in group)
        if plain and len(parts["sample"]) < SAMPLE_LINES and len(group) == 1:
            parts["sample"] += group
            continue
        part = next((p for p, share in SHARES.items() if len(parts[p]) < share * len(messages)), "train")
        parts[part if len(group) < LARGE else "train"] += group
    texts = {
        part: {
            language: [messages[m][language] for m in sorted(names) if language in messages[m]]
            for language in sorted(LANGUAGES.values())
        }
        for part, names in parts.items()
    }
    samples = texts.pop("sample")
    return {part: texts[part] for part in ("train", "valid", "test")}, {name: samples[name] for name in SAMPLES}


def archive(texts: dict[str, dict[str, list[str]]], licence: bytes, path: Path) -> None:
    """Write the zip file: ``<split>/<language>/messages.txt``, ``NOTICE.txt`` and ``LICENSE.txt``."""
    counts = {part: sum(map(len, languages.values())) for part, languages in texts.items()}
    lengths = sorted(len(t) for languages in texts.values() for lines in languages.values() for t in lines)
    notice = NOTICE.format(
        languages=len(LANGUAGES),
        version=VERSION,
        total=sum(counts.values()),
        counts=", ".join(f"{part} {count}" for part, count in counts.items()),
        letters=LETTERS,
        median=lengths[len(lengths) // 2],
        test=counts["test"],
        percent=100 / counts["test"],
    )
    files = {"NOTICE.txt": notice.encode(), "LICENSE.txt": licence}
    for part, languages in texts.items():
        for language, lines in languages.items():
            files[f"{part}/{language}/messages.txt"] = "".join(f"{line}\n" for line in lines).encode()
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content, compresslevel=9)


def main() -> None:
    """Write the archive and the sample texts into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of text classification.")
    parser.add_argument("wheel", type=Path, help=f"django-{VERSION}-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        licence = next((n for n in wheel.namelist() if n == f"django-{VERSION}.dist-info/licenses/LICENSE"), "")
        if not licence:
            parser.error(f"{arguments.wheel}: is not Django {VERSION}")
        messages, terms = read_messages(wheel), wheel.read(licence)
    texts, samples = split(messages)
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    archive(texts, terms, arguments.out / "data/sample.zip")
    for name, lines in samples.items():
        (arguments.out / f"images/sample/{name}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    for part, languages in texts.items():
        print(part, dict(Counter({language: len(lines) for language, lines in languages.items()})))


if __name__ == "__main__":
    main()
