"""The causal model: what follows is not seen, and the cache, padding and batches change nothing."""

import pytest
import torch
from support.tiny_models import FACEBOOK, PAIRS, PUBLISHED, save_checkpoint, shake, stock_twin, tiny_config
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    StaticCache,
    StoppingCriteria,
    pipeline,
)

from curr_ab import (
    CurrAbForCausalLM,
    CurrAbForMaskedLM,
    CurrAbForSequenceClassification,
    CurrAbTokenizer,
)

HEAVIES = [heavy for heavy, _ in PAIRS[:3]]
PROMPTS = [f"<cls>{HEAVIES[0]}<cls><cls>", "<cls>", f"<cls>{HEAVIES[2][:60]}"]
KINDS = pytest.mark.parametrize("kind", [PUBLISHED, FACEBOOK], ids=["published", "facebook"])
ATTENTION = pytest.mark.parametrize("attention", ["sdpa", "eager"])


@pytest.fixture(scope="module")
def tokenizer():
    return CurrAbTokenizer()


def make(kind=PUBLISHED, attention="sdpa"):
    torch.manual_seed(0)
    config = tiny_config(is_decoder=True, **kind)
    config._attn_implementation = attention
    return shake(CurrAbForCausalLM(config)).eval()


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture
def encoded(tokenizer):
    return tokenizer(PAIRS[:3], padding=True, return_tensors="pt")


def left_padded(tokenizer, prompts=PROMPTS):
    return tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")


@KINDS
@ATTENTION
def test_what_follows_is_not_seen(kind, attention, encoded):
    model, ids = make(kind, attention), encoded["input_ids"]
    changed = ids.clone()
    changed[:, 100:] = 32  # masks too: token dropout must not tell of them
    with torch.no_grad():
        before, after = (model(one).logits for one in (ids, changed))
    assert torch.allclose(before[:, :100], after[:, :100], atol=1e-5)
    assert not torch.allclose(before[:, 100:], after[:, 100:], atol=1e-2)


@KINDS
@ATTENTION
@pytest.mark.parametrize("step", [1, 17])
def test_cached_logits_are_the_uncached_ones(kind, attention, step, tokenizer):
    model, ids = make(kind, attention), tokenizer(PAIRS[:1], return_tensors="pt")["input_ids"]
    caches = [
        DynamicCache(),
        StaticCache(config=model.config, max_cache_len=320),
    ]
    with torch.no_grad():
        whole = model(ids).logits
        for cache in caches:
            parts = [
                model(ids[:, at : at + step], past_key_values=cache, use_cache=True).logits
                for at in range(0, ids.shape[1], step)
            ]
            assert (torch.cat(parts, dim=1) - whole).abs().max() <= 1e-5, type(cache)


@KINDS
@ATTENTION
def test_prompts_of_unequal_length_are_as_one_by_one(kind, attention, tokenizer):
    model, batch = make(kind, attention), left_padded(tokenizer)
    more = torch.tensor(tokenizer.convert_tokens_to_ids(list("DIQMTQS")))[None]
    with torch.no_grad():
        together = model(**batch, use_cache=True)
        cache = getattr(together, "cache", None) or together.past_key_values
        mask = torch.nn.functional.pad(batch["attention_mask"], (0, more.shape[1]), value=1)
        then = model(more.expand(3, -1), attention_mask=mask, past_key_values=cache).logits
        unmasked = model(batch["input_ids"], use_cache=True).logits  # padding is seen without a mask, too
        for row, prompt in enumerate(PROMPTS):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            alone = model(torch.cat([ids, more], dim=1)).logits[0]
            num = ids.shape[1]
            for name, batched in {"mask": together.logits, "no mask": unmasked}.items():
                assert (batched[row, -num:] - alone[:num]).abs().max() <= 1e-5, (row, name)
            assert (then[row] - alone[num:]).abs().max() <= 1e-5, row


def test_greedy_text_is_that_of_a_loop_without_a_cache(model, tokenizer):
    batch = left_padded(tokenizer)
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    together = model.generate(**batch, **options)
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        slow = model.generate(ids, use_cache=False, **options)
        fixed = model.generate(ids, cache_implementation="static", **options)
        assert slow.tolist() == fixed.tolist()
        assert together[row, -slow.shape[1] :].tolist() == slow[0].tolist()


def test_the_separator_is_whole(tokenizer):
    """The second `<cls>` is never learnt: `generate` puts it there."""
    model = make()
    model.lm_head.bias.data[0] = 50.0  # ends the chain at once
    ids = tokenizer("<cls>EVQ", return_tensors="pt")["input_ids"]
    written = model.generate(ids, do_sample=True, max_new_tokens=2)
    assert written[0, -3:].tolist() == [*ids[0, -1:].tolist(), 0, 0]
    model.lm_head.bias.data[0] = -50.0
    model.lm_head.bias.data[5] = 50.0
    half = torch.cat([ids, torch.zeros(1, 1, dtype=torch.long)], dim=1)
    assert model.generate(half, max_new_tokens=2)[0, -2:].tolist() == [0, 5]
    whole = torch.cat([half, torch.zeros(1, 1, dtype=torch.long)], dim=1)
    assert model.generate(whole, max_new_tokens=1)[0, -1:].tolist() == [5]


def test_generation_ends_after_one_chain_where_that_is_asked(tokenizer):
    model = make()
    model.lm_head.bias.data[0] = 50.0
    ids = tokenizer("<cls>EVQ", return_tensors="pt")["input_ids"]
    assert model.generate(ids, max_new_tokens=9, eos_token_id=tokenizer.cls_token_id).shape[1] == 5


def test_sampling_beams_and_constraints(model, tokenizer):
    batch = left_padded(tokenizer)
    start = batch["input_ids"].shape[1]
    texts = []
    for _ in range(2):
        torch.manual_seed(1)
        texts.append(model.generate(**batch, do_sample=True, top_p=0.9, temperature=1.2, max_new_tokens=12))
    assert texts[0].tolist() == texts[1].tolist()
    beams = model.generate(**batch, num_beams=3, num_return_sequences=2, max_new_tokens=8)
    assert len(beams) == 6
    allowed = tokenizer.convert_tokens_to_ids(list("ACD"))
    only = model.generate(**batch, prefix_allowed_tokens_fn=lambda _, ids: allowed, max_new_tokens=12)
    assert set(only[:, start:].flatten().tolist()) <= set(allowed)

    class Stop(StoppingCriteria):
        def __call__(self, input_ids, scores, **_):
            return torch.full((len(input_ids),), input_ids.shape[1] >= start + 4)

    assert model.generate(**batch, stopping_criteria=[Stop()], max_new_tokens=12).shape[1] <= start + 4


def test_labels_are_shifted_here(model, encoded):
    ids = encoded["input_ids"]
    labels = ids.masked_fill(ids == 1, -100)
    with torch.no_grad():
        out = model(**encoded, labels=labels)
    log_probabilities = out.logits[:, :-1].log_softmax(-1)
    wanted = labels[:, 1:] != -100
    own = log_probabilities.gather(2, ids[:, 1:, None])[..., 0][wanted]
    assert torch.allclose(out.loss, -own.mean(), atol=1e-5)


def test_the_masked_class_with_the_same_weights_has_the_same_logits(model, encoded):
    """Pretraining trains the masked class; stock ESM reads `is_decoder` as well."""
    trained = CurrAbForMaskedLM(model.config)
    trained.load_state_dict(model.state_dict(), strict=True)
    real = encoded["attention_mask"].bool()
    with torch.no_grad():
        logits = model(**encoded).logits[real]
        assert torch.equal(logits, trained.eval()(**encoded).logits[real])
        assert (logits - stock_twin(model)(**encoded).logits[real]).abs().max() <= 1e-4


def test_a_masked_configuration_is_refused():
    with pytest.raises(ValueError, match=r"is_decoder must be true .*: load it as CurrAbForMaskedLM"):
        CurrAbForCausalLM(tiny_config())
    with pytest.raises(ValueError, match="past_key_values need a causal model"):
        CurrAbForMaskedLM(tiny_config()).esm(torch.zeros(1, 3, dtype=int), past_key_values=DynamicCache())


def test_a_head_does_not_read_what_sees_nothing():
    with pytest.raises(ValueError, match=r"classifier_pooling must be mean or .* for a causal model"):
        CurrAbForSequenceClassification(tiny_config(is_decoder=True, classifier_pooling="cls"))


@pytest.mark.heavy
def test_remote_code_and_pipeline(model, tokenizer, tmp_path):
    save_checkpoint(model, tmp_path / "checkpoint")
    options = {"trust_remote_code": True}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", **options)
    again = AutoTokenizer.from_pretrained(tmp_path / "checkpoint", **options)
    assert type(loaded).__name__ == "CurrAbForCausalLM" and type(loaded) is not CurrAbForCausalLM
    defaults = loaded.generation_config
    assert (defaults.bos_token_id, defaults.pad_token_id, defaults.eos_token_id) == (0, 1, 2)
    with torch.no_grad():
        ids = tokenizer(*PAIRS[0], return_tensors="pt")["input_ids"]
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    again.padding_side = "left"
    write = pipeline("text-generation", model=loaded, tokenizer=again, batch_size=2)
    texts = write(PROMPTS, max_new_tokens=9, do_sample=False)
    for prompt, [text] in zip(PROMPTS, texts, strict=True):
        [alone] = write(prompt, max_new_tokens=9, do_sample=False)
        assert text == alone and text["generated_text"].startswith(prompt)


def test_a_prompt_is_taken_as_it_stands(tokenizer):
    def tokens(text, **options):
        return tokenizer.convert_ids_to_tokens(tokenizer(text, **options)["input_ids"])

    assert tokens("<cls>") == ["<cls>"]
    assert tokens("<cls>EVQ<cls><cls>D") == ["<cls>", *"EVQ", "<cls>", "<cls>", "D"]
    assert tokens("<cls>EVQ<cls><cls>") == ["<cls>", *"EVQ", "<cls>", "<cls>"]
    for wrong, complaint in {
        "<cls>EV1": "heavy chain, position 3: '1'",
        "<cls>EVQ<cls><cls>D<eos>": "light chain, position 2: '<eos>'",
        "<cls><cls><cls>D": "must have a chain in front of its separator",
    }.items():
        with pytest.raises(ValueError, match=complaint):
            tokenizer(wrong)
