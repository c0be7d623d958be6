"""A resolved configuration as YAML that ``--config`` takes, with a comment on each value: where it comes from."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import yaml

from pipeloom.core.config.config import Config
from pipeloom.core.contract.options import Option
from pipeloom.core.host.plugin_manager import PluginManager

_COLUMN = 44


def annotated(config: Config, plugins: PluginManager) -> str:
    """Return ``config`` as YAML; what belongs to one command alone (``--resume``) is left out."""
    answers = plugins.hook.pipeloom_default_options.answers(config=config)
    by_plugin = {name: plugin for plugin, answer in answers for name in answer}
    sections: Dict[str, List[str]] = {}
    for name, option in config.declared.items():
        if not option.transient and name not in config.transient:
            origin = _origin(config, option, by_plugin)
            sections.setdefault(option.section, []).append(
                f"  {_yaml(name, getattr(config, name)):<{_COLUMN}} # {origin}"
            )
    lines = [_yaml("plugins", list(config.plugins))]
    for section, values in sections.items():
        lines += [f"{section}:", *values]
    return "\n".join(lines)


def _yaml(name: str, value: Any) -> str:
    """A line of YAML; a text of several lines is one too, with its line ends as escapes."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_flow_style=True, default_style=style, width=1 << 30, allow_unicode=True)
    return f"{name}: {text.partition(chr(10))[0]}"


def _origin(config: Config, option: Option, by_plugin: Mapping[str, str]) -> str:
    """Say where the value of ``option`` comes from."""
    value, name = getattr(config, option.name), option.name
    if name in config.origins:
        return config.origins[name]
    if name in config.given:
        return f"--{name}"
    if name in by_plugin and value != option.default:
        return f"default of the plugin '{by_plugin[name]}'"
    if value is None:
        return "not given"
    if value == option.cuda_default and value != option.default:
        return "default on GPUs"
    return "default" if option.owner == "core" else f"default ({option.owner})"
