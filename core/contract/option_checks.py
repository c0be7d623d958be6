"""Whether the declaration of an option makes sense, so that a plugin's mistake is told to its author and not to some
user, later."""

from __future__ import annotations

import keyword
import numbers
from collections.abc import Sequence as AnySequence
from typing import Any, Sequence

from pipeloom.core.base.errors import ContractError, UsageError, shown

#: Flags that are no options: what selects plugins and files, and what single commands take beside the options.
OTHER_FLAGS = ("plugins", "strategy", "config", "set", "help", "h", "version", "V", "steps", "tolerance", "schema")

#: What a config has besides its options (``Config`` in core/config/config.py).
ATTRIBUTES_OF_CONFIG = (
    "carried",
    "declared",
    "given",
    "origins",
    "plugins",
    "replace",
    "to_dict",
    "to_flat_dict",
    "to_yaml",
    "transient",
    "typed",
)


class _Unset:
    """Says that an option is left as it is; any other value may be meant."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()


def check_declaration(option: Any, names: Sequence[str], sections: Sequence[str]) -> None:
    """Raise ``ContractError`` unless ``option`` (an ``Option``) can be declared beside options and sections of these
    names."""
    where = f"the option {shown(option.name)}"
    _check_name(option.name, where, [*sections, option.section])
    if isinstance(option.aliases, str) or not isinstance(option.aliases, (list, tuple)):
        raise ContractError(f"{where}: aliases must be a list of names, not {shown(option.aliases)}")
    for number, alias in enumerate(option.aliases):
        # The name of its own section it may have: in a file a section is a mapping, and a value is none.
        others = [section for section in sections if section != option.section]
        _check_name(alias, f"{where}: the alias {shown(alias)}", others)
        if alias == option.name or alias in option.aliases[:number]:
            raise ContractError(f"{where}: the alias '{alias}' is there twice")
    _check_section(option, where, names)
    if not isinstance(option.help, str):
        raise ContractError(f"{where}: help must be text, not {shown(option.help)}")
    _check_type(option, where)
    if option.resume not in ("fixed", "free", "fresh"):
        raise ContractError(f"{where}: resume must be 'fixed', 'free' or 'fresh', not {shown(option.resume)}")
    if option.replaces is not None and option.replaces not in names:
        raise ContractError(
            f"{where}: replaces must name an option that is there already, not {shown(option.replaces)}"
        )
    if option.path not in (False, True, "weighted"):
        raise ContractError(f"{where}: path must be False, True or 'weighted', not {shown(option.path)}")
    if option.path and not (option.type is str or hasattr(option.type, "convert")):
        raise ContractError(f"{where}: a path is text, so its type must be str")
    for name in ("per_node", "transient"):
        if not isinstance(getattr(option, name), bool):
            raise ContractError(f"{where}: {name} must be True or False, not {shown(getattr(option, name))}")
    if option.model_card not in (None, True, False):
        raise ContractError(f"{where}: model_card must be True, False or None, not {shown(option.model_card)}")
    for name in ("default", "cuda_default", "single_process"):
        if getattr(option, name) not in (None, UNSET):
            _check_value(option, getattr(option, name), f"{where}: its {name}")


def with_type(option: Any, value: Any) -> Any:
    """A default in the very type of its option: ``1`` of a ``float`` is ``1.0``."""
    return float(value) if option.type is float and value is not None else value


def _check_name(name: Any, where: str, sections: Sequence[str]) -> None:
    if not isinstance(name, str) or not (name.isidentifier() and name.isascii()) or name.startswith("_"):
        close = str(name).strip("-_ ").replace("-", "_").replace(" ", "_")
        better = f", for instance '{close}'" if close.isidentifier() and close.isascii() else ""
        raise ContractError(
            f"{where}: a name is made of letters, digits and underscores, and begins with a letter{better}"
        )
    if keyword.iskeyword(name):
        raise ContractError(
            f"{where}: this is a word of Python's, so config.{name} could not be written: choose another name"
        )
    if name in OTHER_FLAGS:
        raise ContractError(f"{where}: --{name} is pipeloom's own flag: choose another name")
    if name in ATTRIBUTES_OF_CONFIG:
        raise ContractError(f"{where}: config.{name} is something else already: choose another name")
    if name in sections:
        raise ContractError(f"{where}: this is the name of a section of the YAML file: choose another name")


def _check_section(option: Any, where: str, names: Sequence[str]) -> None:
    section = option.section
    if not isinstance(section, str) or not section.isidentifier():
        raise ContractError(f"{where}: a section is a name of letters, digits and underscores, not {shown(section)}")
    if section in ("plugins", "strategy"):
        raise ContractError(f"{where} cannot be in the section '{section}', which is a key of its own")
    if section in names:
        raise ContractError(f"{where} cannot be in the section '{section}', which is the name of an option")


def _check_type(option: Any, where: str) -> None:
    kinds = {int: "int", float: "float", bool: "bool", str: "str"}
    if not (isinstance(option.type, type) and (option.type in kinds or hasattr(option.type, "convert"))):
        raise ContractError(
            f"{where}: its type must be {', '.join(kinds.values())}, or IntList or IntLists of "
            "pipeloom.core.contract.options, "
            f"not {getattr(option.type, '__name__', None) or shown(option.type)}"
        )
    choices, bounded = option.choices, option.type in (int, float)
    if choices is not None and (isinstance(choices, str) or not isinstance(choices, AnySequence) or not choices):
        raise ContractError(f"{where}: choices must be a list of values, not {shown(option.choices)}")
    for name in ("minimum", "maximum"):
        bound = getattr(option, name)
        if bound is not None and not (bounded and isinstance(bound, numbers.Real) and not isinstance(bound, bool)):
            raise ContractError(f"{where}: {name} {shown(bound)} must be a number, of an option that is one")
    if option.minimum is not None and option.maximum is not None and option.minimum > option.maximum:
        raise ContractError(f"{where}: its minimum {option.minimum} is above its maximum {option.maximum}")
    for choice in option.choices or ():
        _check_value(option, choice, f"{where}: its choice")


def _check_value(option: Any, value: Any, where: str) -> None:
    """``value`` must be of the option's type as it is, and one that a user could give."""
    exact: Any = {int: int, float: (int, float), bool: bool, str: str}.get(option.type)
    if exact is not None and (not isinstance(value, exact) or (isinstance(value, bool) and option.type is not bool)):
        raise ContractError(f"{where} {shown(value)} is no {option.type.__name__}")
    try:
        option.parse(value, where)
    except UsageError as error:
        raise ContractError(str(error)) from None
