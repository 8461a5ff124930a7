"""The extra `transformers`: small models that the library itself has written are fine-tuned, resumed and exported."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Render, copier_copy, copy, in_project, of_the_day, save, update
from test_documents import steps

pytestmark = pytest.mark.slow

KINDS = ["text_classification", "language_modeling", "audio_classification"]
NAMES = dict(zip(KINDS, ["bert", "gpt2", "wav2vec2"], strict=True))
EXTRAS = "transformers export optimizers pretrained"
QUICK = ["run.device=cpu", "train.epochs=1", "train.limit_batches=2", "data.batch_size=4", "run.name=a-run"]
DATA = {
    "text_classification": ["data.max_length=24", "data.tokens=subwords", "data.transforms={}"],
    "language_modeling": ["data.context=24", "data.tokens=subwords"],
    "audio_classification": ["data.seconds=0.2", "data.sample_rate=16000", "data.resample=true"],
}

Play = Callable[..., str]


@pytest.fixture
def home(render: Render, kind: str, tmp_path: Path) -> Path:
    return shutil.copytree(render(data_kind=kind, extras=EXTRAS), tmp_path / "project")


def play(project: Path, *command: str, ok: bool = True) -> str:
    """Run Python with a project on its path, without the Hub; returns what it printed."""
    done = in_project(project, *command, ok=ok, HF_HUB_OFFLINE="1")
    return done.stdout if ok else done.stderr


@pytest.mark.parametrize("kind", of_the_day(KINDS, 1))
def test_own_tests_of_a_project_with_transformers_pass(home: Path) -> None:
    said = play(home, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "test/test_transformers.py")
    assert re.search("[56] passed", said)


def test_transformers_are_refused_for_other_kinds_of_data(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="remove transformers: it is for texts and sounds; data_kind is tabular"):
        copier_copy(plain, tmp_path / "project", data_kind="tabular", extras="transformers")


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_an_update_that_adds_it_merges_task_py_and_a_later_one_says_so(
    template: Path, releases: list[str], tmp_path: Path, kind: str
) -> None:
    for at_once in (True, False):
        project = tmp_path / str(at_once)
        copy(template, project, "v0.11.1", data_kind=kind)
        save(project, "new")
        if not at_once:
            update(project)
            save(project, "updated")
        update(project, extras="transformers")
        files = ["test/test_dataloader.py", "test/test_transformers.py"]  # one has tests in any case
        said = play(project, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *files)
        assert ("earlier version: see docs/transformers.md" in said) != at_once
        assert "failed" not in said


# Writes a model of an architecture with small sizes, and a tokenizer, into a folder.
WEIGHTS = """if True:
    import sys, torch, transformers as library
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    name, folder, layers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.manual_seed(0)
    if name in ("wav2vec2", "hubert", "wavlm"):
        config = library.AutoConfig.for_model(name, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
            intermediate_size=32, num_conv_pos_embeddings=8, conv_dim=[8] * 7)
        library.AutoModel.from_config(config).save_pretrained(folder)
        library.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        sys.exit()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["the people of the united states, o povo, le peuple"], trainer)
    if name not in ("gpt2", "llama"):
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    known = library.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>",
        eos_token="</s>", mask_token="<mask>")
    known.save_pretrained(folder)
    known_sizes = library.AutoConfig.for_model(name)
    sizes = dict(vocab_size=len(known), hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, num_key_value_heads=2, embedding_size=16, head_dim=8,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2)
    sizes = {key: value for key, value in sizes.items() if hasattr(known_sizes, key)}
    config = library.AutoConfig.for_model(name, **sizes)
    kind = library.AutoModelForCausalLM if name in ("gpt2", "llama") else library.AutoModelForMaskedLM
    kind.from_config(config).save_pretrained(folder)
"""

# Compares a checkpoint's outputs, for texts of several lengths in one batch, with those of the library for each alone.
COMPARE = """if True:
    import sys, torch, transformers as library
    from my_project.engine import checkpoint, inference
    _, task, model = inference.load(checkpoint.find("a-run", __import__("pathlib").Path("checkpoints")))
    theirs = library.AutoModel.from_pretrained("weights").eval()
    tokenizer = library.AutoTokenizer.from_pretrained("weights")
    texts = ["the people", "o povo le peuple the", "😀", "of the united states " * 9]
    ids = [task.vocabulary.encode(text, 24) for text in texts]
    own = model(torch.nn.utils.rnn.pad_sequence(ids, batch_first=True))
    for text, output in zip(texts, own):
        given = tokenizer(text, truncation=True, max_length=24, return_tensors="pt", return_token_type_ids=False)
        mean = theirs(**given)[0].mean(dim=1)
        torch.testing.assert_close(output, model.head(mean)[0], atol=1e-4, rtol=0)
    print("the same")
"""
COMPARE_SOUNDS = """if True:
    import torch, transformers as library
    from my_project.engine import checkpoint, inference
    _, task, model = inference.load(checkpoint.find("a-run", __import__("pathlib").Path("checkpoints")))
    theirs = library.AutoModel.from_pretrained("weights").eval()
    sounds = next(iter(task.eval_loader("valid")))[0].flatten(0, -2)
    extract = library.AutoFeatureExtractor.from_pretrained("weights")
    values = extract([*sounds.numpy()], sampling_rate=16000, return_tensors="pt").input_values
    torch.testing.assert_close(model(sounds), model.head(theirs(values)[0].mean(dim=1)), atol=1e-4, rtol=0)
    print("the same")
"""

FAMILIES = ["bert", "roberta", "distilbert", "electra", "deberta-v2", "mpnet", "modernbert", "xlm-roberta", "gpt2"]


def train(home: Path, kind: str, *more: str, lora: str = "") -> str:
    args = "name: weights, pretrained: true" + lora
    given = ["model.name=transformers", f"model.args={{{args}}}", *DATA[kind]]
    return play(home, "-m", "my_project", "train", "configs/train.yaml", *QUICK, *given, *more)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("kind", "name"),
    [*((KINDS[0], name) for name in FAMILIES), *((KINDS[2], name) for name in ("wav2vec2", "hubert", "wavlm"))],
)
def test_each_family_agrees_with_the_library_and_is_exported(home: Path, kind: str, name: str) -> None:
    play(home, "-c", WEIGHTS, name, "weights", "2")
    train(home, kind, "optimizer.lr=1e-30", "optimizer.weight_decay=0")
    assert "the same" in play(home, "-c", COMPARE if kind == KINDS[0] else COMPARE_SOUNDS)
    shutil.rmtree(home / "weights")
    said = play(home, "-m", "my_project", "export", "a-run")
    assert said.count("agrees with the model") >= 4
    for form in ([], ["--pt2"]):
        play(home, "-m", "my_project", "run-exported", "exports/a-run", "images/sample", *form)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", KINDS[1:2])
def test_each_causal_model_writes_without_its_folder_and_is_exported(home: Path, kind: str, name: str) -> None:
    play(home, "-c", WEIGHTS, name, "weights", "2")
    train(home, kind, "data.generate=9")
    shutil.rmtree(home / "weights")
    assert " → " in play(home, "-m", "my_project", "run", "--checkpoint", "a-run", "images/sample")
    assert "agrees with the model" in play(home, "-m", "my_project", "export", "a-run")
    play(home, "-m", "my_project", "run-exported", "exports/a-run", "images/sample")


# The exported weights of a run with LoRA are those of a model without it, and give the checkpoint's outputs.
MERGED = """if True:
    import pathlib, torch
    from safetensors.torch import load_file
    from my_project.engine import checkpoint, inference
    from my_project.exported import load
    _, task, model = inference.load(checkpoint.find("a-run", pathlib.Path("checkpoints")))
    assert any("lora" in name for name in model.state_dict())
    saved = load_file("exports/a-run/model.safetensors")
    assert saved and not any("lora" in name or "base_layer" in name for name in saved)
    batch = next(iter(task.eval_loader("valid")))
    batch = [batch[0].flatten(0, 1)] if batch[0].dim() == 3 else batch
    for pt2 in (False, True):
        exported = load(pathlib.Path("exports/a-run"), pt2)[2]
        torch.testing.assert_close(exported(batch[0]), model(batch[0]), atol=1e-5, rtol=0)
    print("merged")
"""
SAME = """if True:
    import torch
    one, two = (torch.load(f"checkpoints/{run}/last.pt", weights_only=True) for run in ("a-run", "parts"))
    for part in ("model", "ema"):
        assert all(torch.equal(tensor, two[part][name]) for name, tensor in one[part].items()), part
    states = [each["optimizer"]["state"] for each in (one, two)]
    assert len(states[0]) == sum("lora" in name or name[:5] == "head." for name in one["model"])
    assert all(torch.equal(states[0][key]["exp_avg"], states[1][key]["exp_avg"]) for key in states[0])
    print("the same")
"""
LORA = ", lora: {r: 4, alpha: 8, dropout: 0.1, target_modules: all-linear}"


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_lora_resumes_bit_for_bit_and_is_exported_merged(home: Path, kind: str) -> None:
    play(home, "-c", WEIGHTS, NAMES[kind], "weights", "2")
    settings = ["train.epochs=2", "train.ema=0.9", "optimizer.lr=0.01", "checkpoint.every_steps=1"]
    train(home, kind, *settings, "checkpoint.keep=9", lora=LORA)
    shutil.rmtree(home / "weights")
    whole, parts = home / "checkpoints/a-run", home / "checkpoints/parts"
    shutil.copytree(whole, parts)
    shutil.copy(parts / "earlier/step-00000001.pt", parts / "last.pt")
    assert "epoch 2/2" in play(home, "-m", "my_project", "train", "--resume", "parts")
    assert "the same" in play(home, "-c", SAME)
    play(home, "-m", "my_project", "export", "a-run")
    assert "merged" in play(home, "-c", MERGED)


@pytest.mark.exhaustive
@pytest.mark.parametrize("lora", ["", LORA], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_together(home: Path, kind: str, lora: str) -> None:
    play(home, "-c", WEIGHTS, NAMES[kind], "weights", "2")
    given = ["model.name=transformers", f"model.args={{name: weights, pretrained: true{lora}}}"]
    launch = ["-m", "my_project.engine.launch", "--nproc-per-node=2", "-m", "my_project", "train", *QUICK]
    said = in_project(home, *launch, *given, *DATA[kind], cold=True, HF_HUB_OFFLINE="1").stdout
    assert "on 2 x cpu" in said
    assert "epoch 1/1" in said


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_of_the_page_work_with_weights_of_a_folder(home: Path, kind: str) -> None:
    place, layers = dict(zip(KINDS, (("minilm", "6"), ("distilgpt2", "6"), ("wav2vec2", "12")), strict=True))[kind]
    play(home, "-c", WEIGHTS, NAMES[kind], f"checkpoints/{place}", layers)
    tried = 0
    for step in steps((home / "docs/transformers.md").read_text()):
        if step.path:
            (home / step.path).write_text(step.code)
        elif step.command.startswith("scripts/train.sh"):
            words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", step.command)]
            play(home, "-m", "my_project", "train", *words[1:], *QUICK[:-1], *DATA[kind][:1])
            tried += 1
    assert tried == 4
