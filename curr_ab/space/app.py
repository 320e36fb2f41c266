"""The app: a pair at the top, a tab for each use that the model has, an API and tools for agents."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio.events import api

from curr_ab import __version__
from curr_ab.options import OptionError
from curr_ab.pages import packaged_text
from curr_ab.space.answers import MOST_LIGHTS, MOST_RECORDS, MOST_SAMPLES, Answers, one_line
from curr_ab.space.examples import EXAMPLES, LIGHTS
from curr_ab.space.model import Model
from curr_ab.space.reference import Reference, measure, read_reference
from curr_ab.space.settings import NUM_REFERENCE_PAIRS, REFERENCE
from curr_ab.space.views import (
    complaint,
    show_file,
    show_generated,
    show_mutants,
    show_ranking,
    show_restoration,
    show_score,
)

_QUEUE = "model"  # one question at a time: all cores, or the GPU, are for it
_FILES = [".csv", ".tsv", ".parquet", ".json", ".jsonl", ".fasta", ".fa", ".gz"]


def serve(
    name: str,
    *,
    host: str | None = None,
    port: int | None = None,
    reference_pairs: int = NUM_REFERENCE_PAIRS,
    folder: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the app of a model until it is interrupted; `host` and `port` are Gradio's own where not given.

    Percentiles are among the pairs of `reference.json` in the folder of a Space; without a folder among
    `reference_pairs` pairs that are scored now, which for a large model on a CPU takes minutes.
    """
    if cores := os.environ.get("CPU_CORES"):  # of a Space, whose machine shows more than it lends
        torch.set_num_threads(int(cores))
    model = Model(name)
    reference = None
    if folder is not None:
        reference = read_reference(Path(folder, REFERENCE))
        if reference.checkpoint != model.digest:
            say(
                f"no percentiles: {REFERENCE} is of other weights than {name} has now; publish the Space anew"
            )
            reference = None
    elif reference_pairs:
        say(f"scoring {reference_pairs} pairs of the package's corpus, for percentiles")
        reference = measure(model, reference_pairs)
    app = build_app(model, reference)
    say(f"{name} on {model.device}; stop it with Ctrl+C")
    try:
        app.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,  # it needs Node, and gains nothing here
            mcp_server=_has_mcp(),
            footer_links=["api"],
            # The system's own letters: nothing to fetch, and the same as in the charts.
            theme=gr.themes.Default(
                font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")
            ),
            css=packaged_text("space/style.css"),
            max_file_size="5mb",
        )
    except OSError as error:
        if port is None:
            raise
        raise OptionError(f"port must be a free one; {port} cannot be used ({error})", "port") from None


def _has_mcp() -> bool:
    """True where `mcp` is installed in the version that Gradio 6 can use, and would fail with another."""
    try:
        return version("mcp").startswith("1.")
    except PackageNotFoundError:
        return False


def build_app(model: Model, reference: Reference | None) -> gr.Blocks:
    """The page and the API; tabs are those of what the model can do."""
    answers = Answers(model, reference)
    app: gr.Blocks
    with gr.Blocks(
        title=f"{model.name} · curr-ab", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as app:
        gr.Markdown(
            f"# {model.name.rpartition('/')[2]}\n"
            f"{'Causal' if model.is_causal else 'Masked'} language model of paired antibodies. "
            "What it says are likelihoods: no affinities, no stabilities."
        )
        heavy = gr.Textbox(label="Heavy chain", lines=2, max_lines=6, elem_id="heavy")
        light = gr.Textbox(label="Light chain", lines=2, max_lines=6, elem_id="light")
        with gr.Row():
            for label, pair in EXAMPLES.items():
                button = gr.Button(label, size="sm")
                button.click(partial(list, pair), None, [heavy, light], api_visibility="private")
        with gr.Tabs():
            with gr.Tab("Score"):
                _score_tab(answers, heavy, light)
            if not model.is_causal:
                with gr.Tab("Mutate"):
                    _use("Score all mutants", partial(show_mutants, answers), [heavy, light])
                with gr.Tab("Restore"):
                    gr.Markdown("Fills in residues that are written `X`, `*`, `_` or `<mask>`.")
                    _use("Fill in", partial(show_restoration, answers), [heavy, light])
            with gr.Tab("Pair"):
                _pair_tab(answers, heavy)
            if model.is_causal:
                with gr.Tab("Generate"):
                    _generate_tab(answers, heavy)
        gr.Markdown(f"curr-ab {__version__} · weights {model.digest[:12]} · {model.device}")
        masked = (answers.mutate, answers.restore)
        for function in (answers.score, answers.pair, *((answers.generate,) if model.is_causal else masked)):
            api(_refusing(function), api_name=function.__name__, concurrency_id=_QUEUE)
    return app


def _score_tab(answers: Answers, heavy: gr.Textbox, light: gr.Textbox) -> None:
    _use("Score", partial(show_score, answers), [heavy, light])
    with gr.Accordion(f"A file of pairs (at most {MOST_RECORDS})", open=False):
        file = gr.File(label="CSV, Parquet, JSON, AIRR or FASTA", file_types=_FILES, type="filepath")
        _use("Score the file", partial(show_file, answers), [file])
        rows = gr.JSON(visible=False)
        score = gr.Button(visible=False)
        score.click(_refusing(answers.score_file), [file], rows, api_name="score_file", concurrency_id=_QUEUE)


def _pair_tab(answers: Answers, heavy: gr.Textbox) -> None:
    lights = gr.Textbox(
        label=f"Light chains, one in each line or as FASTA (at most {MOST_LIGHTS})", lines=4, elem_id="lights"
    )
    gr.Button("Example light chains", size="sm").click(
        lambda: "\n".join(LIGHTS), None, lights, api_visibility="private"
    )
    _use("Rank", partial(show_ranking, answers), [heavy, lights])


def _generate_tab(answers: Answers, heavy: gr.Textbox) -> None:
    gr.Markdown("Draws light chains for the heavy chain.")
    with gr.Row():
        number = gr.Slider(1, MOST_SAMPLES, 3, step=1, label="Light chains")
        temperature = gr.Slider(0.1, 2.0, 1.0, step=0.1, label="Temperature")
        seed = gr.Number(0, precision=0, label="Seed")
    _use("Generate", partial(show_generated, answers), [heavy, number, temperature, seed])


def _use(label: str, show: Callable[..., str], inputs: list[Any]) -> None:
    """A button, and below it what comes of pressing it: a result, or one line on what is wrong."""

    def shown(*values: Any) -> str:
        try:
            return show(*values)
        except ValueError as error:
            return complaint(one_line(error))

    button = gr.Button(label, variant="primary")
    result = gr.HTML(elem_classes="result", apply_default_css=False)
    button.click(shown, inputs, result, api_visibility="private", concurrency_id=_QUEUE)


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with errors that Gradio hands to who called it."""

    @wraps(function)
    def called(*values: Any, **named: Any) -> Any:
        try:
            return function(*values, **named)
        except ValueError as error:
            raise gr.Error(one_line(error), print_exception=False) from None

    return called
