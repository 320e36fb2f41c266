"""Publication of Spaces by the names of their models, after whatever else is published with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curr_ab import __version__
from curr_ab.files import scratch_folder
from curr_ab.hub.publication import Sent, publish, refuse_foreign_namespace
from curr_ab.hub.remote import told_in_one_line
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.hub.spaces import WHY_PUBLIC, current_hardware, space_source, write_space
from curr_ab.options import OptionError


def publish_spaces(
    models: Sequence[str],
    *,
    namespace: str,
    folders: Sequence[str | Path] = (),
    datasets: Sequence[str | Path] = (),
    space_settings: SpaceSettings | None = None,
    private: bool = False,
    dry_run: bool = False,
    attempts: int = 8,
    **options: Any,
) -> Sent:
    """Publish folders and data sets as `publish` does, then a Space for each model, maybe one of them.

    Whether that may be is asked before the reference pairs are scored. `options` are those of `publish`.
    """
    from huggingface_hub import HfApi

    titles = [space_source(model, namespace)[1] for model in models]
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise OptionError(f"spaces must have a name each; two would be {namespace}/{twice}", "spaces")
    if private:
        raise OptionError(f"private must be no for {namespace}/{titles[0]}: {WHY_PUBLIC}", "private")
    api, settings = HfApi(library_name="curr-ab", library_version=__version__), space_settings
    with told_in_one_line():
        if not dry_run:
            refuse_foreign_namespace(api, namespace, attempts)
        machines = [current_hardware(api, f"{namespace}/{title}", attempts) for title in titles]
    options |= {"namespace": namespace, "dry_run": dry_run, "attempts": attempts}
    sent = publish(folders, datasets=datasets, **options) if folders or datasets else Sent(0, 0)
    with scratch_folder("curr-ab-space-") as place:
        spaces = [
            write_space(model, place, namespace=namespace, settings=settings, hardware=hardware)
            for model, hardware in zip(models, machines, strict=True)
        ]
        more = publish(spaces, space_settings=settings, **options)
    return Sent(sent.files + more.files, sent.commits + more.commits)
