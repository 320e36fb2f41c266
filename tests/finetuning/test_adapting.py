"""Adapters touch what they are meant to touch and nothing else, and nothing goes around them."""

import pytest
import torch
from support.tiny_models import pack, shake, tiny_config

from curr_ab import CurrAbConfig, CurrAbForSequenceClassification
from curr_ab.family import member as family_member
from curr_ab.finetuning.model import (
    AdapterDropout,
    adapted,
    build_model,
    describe_trainable,
    model_config,
    set_training,
)
from curr_ab.finetuning.recipe import ADAPTABLE


@pytest.fixture
def build(make_recipe, member):
    def build_with(task="specificity-binary", **changes):
        return build_model(make_recipe(task, **changes), str(member))

    return build_with


def loss_of(model, rows):
    labels = torch.arange(len(rows)) % 2
    return torch.nn.functional.cross_entropy(model(**pack(rows)).logits, labels)


def train_a_little(model, rows):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        loss_of(model, rows).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("lora", ADAPTABLE),
        ("lora", ("attention.self.query", "output.dense")),
        ("dora", ADAPTABLE),
        ("frozen", ()),
    ],
)
@pytest.mark.heavy
def test_only_the_intended_matrices_change(build, rows, method, names):
    changes = {} if method == "frozen" else {"target_modules": list(names)}
    model = build(method=method, **changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_a_little(model, rows)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    expected = {f"base_model.model.classifier.modules_to_save.default.{part}" for part in HEAD_PARTS}
    kinds = ["lora_A.default.weight", "lora_B.default.weight"]
    kinds += ["lora_magnitude_vector.default.weight"] if method == "dora" else []
    for layer in range(2):
        for name in names:
            path = f"base_model.model.esm.encoder.layer.{layer}.{name}"
            expected |= {f"{path}.{kind}" for kind in kinds}
    assert changed == expected
    assert not any("lm_head" in name or "contact_head" in name for name in changed)


HEAD_PARTS = ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")


def test_full_trains_everything_but_the_contact_head(build, rows):
    model = build(method="full")
    before = {name: value.clone() for name, value in model.named_parameters()}
    train_a_little(model, rows)
    same = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert same == {"esm.contact_head.regression.weight", "esm.contact_head.regression.bias"}


@pytest.mark.parametrize("name", ADAPTABLE)
@pytest.mark.heavy
def test_no_fast_path_goes_around_an_adapter(build, rows, name):
    """The three projections of attention run as one product, unless one of them is adapted."""
    model = build(target_modules=[name]).eval()
    plain = model(**pack(rows)).logits
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    adapted_logits = model(**pack(rows)).logits
    assert (adapted_logits - plain).abs().max() > 1e-3
    merged = model.merge_and_unload()
    assert (merged(**pack(rows)).logits - adapted_logits).abs().max() < 2e-5


@pytest.mark.parametrize(
    ("size", "method", "text"),
    [
        # 6 layers: rank 8 at four matrices of 320 x 320 and two of 320 x 1280; a head of 320 x 320 + 2 x 320.
        ("8M", "lora", "trainable 379,842 of 7.8 M parameters (4.9 %)"),
        ("8M", "frozen", "trainable 103,362 of 7.5 M parameters (1.4 %)"),
    ],
)
def test_the_trainable_share_is_told(make_recipe, size, method, text):
    recipe = make_recipe(method=method)
    config = CurrAbConfig(**{**family_member(f"{size}-F").config(), "classifier_pooling": "cls"})
    with torch.device("meta"):
        model = adapted(CurrAbForSequenceClassification(config), recipe, "")
    assert describe_trainable(model) == text


@pytest.mark.parametrize("task", ["specificity-multiclass", "paratope", "affinity"])
def test_the_head_has_the_recipe_s_labels(make_recipe, member, task):
    recipe = make_recipe(task, **({"pooling": "mean_per_chain"} if task != "paratope" else {}))
    config = model_config(recipe, str(member))
    assert config.num_labels == max(1, len(recipe.labels))
    if recipe.labels:
        assert tuple(config.id2label.values()) == recipe.labels
    else:
        assert config.problem_type == "regression"


def test_a_head_that_the_checkpoint_has_is_replaced(build, make_recipe, tmp_path):
    """The new one follows from seed and fold alone."""
    torch.manual_seed(3)
    old = shake(CurrAbForSequenceClassification(tiny_config(num_labels=5, classifier_pooling="cls")))
    old.save_pretrained(tmp_path / "old")
    recipe = make_recipe(method="full")
    heads = [build_model(recipe, str(tmp_path / "old"), fold=fold).classifier for fold in (1, 1, 2)]
    weights = [head.dense.weight for head in heads]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], old.classifier.dense.weight) and heads[0].out_proj.out_features == 2


def test_a_checkpoint_that_lacks_weights_is_refused(make_recipe, member, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(member / "model.safetensors")
    del weights["esm.encoder.layer.1.output.dense.weight"]
    (tmp_path / "config.json").write_text((member / "config.json").read_text())
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors, such as esm\.encoder\.layer\.1\.output"):
        build_model(make_recipe(), str(tmp_path))


def test_a_frozen_base_stays_in_evaluation_mode(make_recipe, member):
    for method in ("frozen", "lora"):
        recipe = make_recipe(method=method)
        model = build_model(recipe, str(member))
        set_training(model, recipe)
        bare = model.get_base_model()
        assert bare.classifier.training and bare.esm.encoder.training is (method != "frozen")


def test_dropout_of_adapters(build):
    model = build(adapter_dropout=0.25)
    found = [module for module in model.modules() if isinstance(module, AdapterDropout)]
    assert len(found) == 2 * len(ADAPTABLE)
    dropped = found[0].train()(torch.ones(100_000))
    assert ((dropped == 0) | (dropped == 1 / 0.75)).all()
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(found[0].eval()(torch.ones(9)), torch.ones(9))
