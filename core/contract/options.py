"""Options: each is a flag, a YAML key and an attribute of the config, declared once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

from pipeloom.core.base.errors import ContractError, UsageError, shown
from pipeloom.core.base.paths import expand_home, expand_homes
from pipeloom.core.contract.option_checks import UNSET, check_declaration, with_type


class IntList:
    """The type of an option that is a list of whole numbers: ``8,9,7``, in YAML ``[8, 9, 7]``."""

    wanted = "whole numbers with commas between them"
    #: Its values in YAML, as a JSON schema.
    schema = {
        "anyOf": [
            {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^\s*\d+\s*(,\s*\d+\s*)*$"},
        ]
    }

    @staticmethod
    def convert(value: Any) -> Optional[List[int]]:
        items = value if isinstance(value, (list, tuple)) else _text(value).split(",")
        texts = [_text(item).strip() for item in items]
        return [int(text) for text in texts] if texts and all(text.isdecimal() for text in texts) else None


class IntLists:
    """The type of an option that is a list of such lists: ``0,3;1,2``, in YAML ``[[0, 3], [1, 2]]``."""

    wanted = "lists of whole numbers with semicolons between them"
    schema = {
        "anyOf": [
            {"type": "array", "items": IntList.schema, "minItems": 1},
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^[\d\s,;]*\d[\d\s,;]*$"},
        ]
    }

    @staticmethod
    def convert(value: Any) -> Optional[List[List[int]]]:
        rows = [
            IntList.convert(row) for row in (value if isinstance(value, (list, tuple)) else _text(value).split(";"))
        ]
        whole = [row for row in rows if row is not None]
        return whole if rows and len(whole) == len(rows) else None


def _text(value: Any) -> str:
    """``value`` as text; of anything but text and numbers the empty one (a list may stand for more than memory
    holds).
    """
    return str(value) if isinstance(value, (str, int)) else ""


#: Keys of the YAML file that are not options.
RESERVED = ("plugins", "strategy")

#: What becomes of an option when a run is resumed. It stays as it was, since it changes the mathematics; or it is as it
#: was too, and may be changed freely; or it belongs to one command alone.
FIXED, FREE, FRESH = "fixed", "free", "fresh"

#: The kind of an option that names several paths, perhaps with weights: ``a:0.7,b:0.3``.
WEIGHTED = "weighted"


#: What a value that is true or false may be called.
TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True)
class Option:
    """One option, and what the core must know of it. ``Options.add`` describes the fields."""

    name: str
    type: type
    default: Any
    help: str
    section: str
    owner: str
    choices: Optional[Sequence[Any]] = None
    cuda_default: Any = None
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    aliases: Sequence[str] = ()
    resume: str = FIXED
    replaces: Optional[str] = None
    path: Union[bool, str] = False
    per_node: bool = False
    transient: bool = False
    model_card: Optional[bool] = None
    single_process: Any = UNSET

    @property
    def is_left_to_plan(self) -> bool:
        """Whether without a value the plan decides, by the machines and the data that there are (``--nnodes``)."""
        return self.default is None and self.cuda_default is None

    def parse(self, value: Any, where: str) -> Any:
        """``value`` (text from the command line, or what YAML made of it) as this option's type.

        Raises ``UsageError`` naming ``where`` when it is of another type or out of range.
        """
        # Where "none" is the default's own word (--recompute none), it is a value like others.
        unset = isinstance(value, str) and value.lower() in ("none", "null") and value != self.default
        if value is None or unset:
            if self.default is None:
                return None
            raise UsageError(f"{where}: '{self.name}' needs a value ({self._wanted()})")
        try:
            parsed = self._convert(value)
            if self.path and isinstance(parsed, str):
                parsed = expand_homes(parsed) if self.path == WEIGHTED else expand_home(parsed)
        except UsageError as error:
            raise UsageError(f"{where}{'' if where == f'--{self.name}' else f': {self.name}'} {error}") from None
        if parsed is None:
            raise UsageError(f"{where}: '{self.name}' must be {self._wanted()}, not {shown(value)}")
        if self.choices is not None and parsed not in self.choices:
            raise UsageError(
                f"{where}: '{self.name}' must be one of {', '.join(map(str, self.choices))}, not {shown(value)}"
            )
        if self.minimum is not None and not parsed >= self.minimum:
            raise UsageError(f"{where}: '{self.name}' must be at least {self.minimum}, not {_short(value)}")
        if self.maximum is not None and not parsed <= self.maximum:
            raise UsageError(f"{where}: '{self.name}' must be at most {self.maximum}, not {_short(value)}")
        return parsed

    def _convert(self, value: Any) -> Any:
        if hasattr(self.type, "convert"):
            return self.type.convert(value)
        if not isinstance(value, (str, int, float, date)):  # a list, a mapping, bytes: whatever YAML has besides
            return None
        if self.type is bool:
            text = str(value).lower()
            return True if text in TRUE else False if text in FALSE else None
        if isinstance(value, bool):
            return None
        try:
            if self.type is int and not isinstance(value, int):
                if isinstance(value, str):
                    try:
                        return int(value)  # keeps every digit; float knows 53 bits
                    except ValueError:
                        pass  # 1e4 perhaps
                number = float(value)  # type: ignore[arg-type]  # a date: TypeError
                return int(number) if number == int(number) else None
            parsed = self.type(value)
            if self.type is str:
                parsed.encode("utf-8")  # half a character: ValueError
                return parsed if "\0" not in parsed else None
            return parsed if self.type is not float or math.isfinite(parsed) else None
        except (TypeError, ValueError, OverflowError):
            return None

    def _wanted(self) -> str:
        return (
            getattr(self.type, "wanted", None)
            or {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.type]
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Options:
    """The options of a run, in the order of declaration, by name."""

    def __init__(self) -> None:
        self._by_name: Dict[str, Option] = {}
        self._aliases: Dict[str, str] = {}
        self.owner = "core"
        #: Owners that a selection can leave out by "-NAME".
        self.defaults: Sequence[str] = ()

    def add(
        self,
        name: str,
        type: type,
        default: Any = None,
        *,
        help: str,
        section: str = "plugin_options",
        choices: Optional[Sequence[Any]] = None,
        cuda_default: Any = None,
        minimum: Optional[float] = None,
        maximum: Optional[float] = None,
        aliases: Sequence[str] = (),
        resume: str = FIXED,
        replaces: Optional[str] = None,
        path: Union[bool, str] = False,
        per_node: bool = False,
        transient: bool = False,
        model_card: Optional[bool] = None,
        single_process: Any = UNSET,
    ) -> None:
        """Declare an option.

        ``cuda_default`` replaces ``default`` on a machine with GPUs.
        ``resume``: ``"fixed"`` (it changes the mathematics, so a resumed run keeps it), ``"free"`` (a resumed run may
        have another value), or ``"fresh"`` (it holds for one command and is not carried over to a resumed run).
        ``replaces`` names an option that says the same in another way: of the two that counts which a stronger source
        gives (a flag over the YAML file, both over a checkpoint).
        ``path``: the value names a file or folder, with ``"weighted"`` several (``a:0.7,b:0.3``). ``~`` is expanded,
        nodes of a job are compared by contents, and a message about a path that is not there suggests one beside it.
        ``per_node``: each node of a job may have its own value.
        ``transient``: it says how one command begins or ends, so the configuration that a run writes leaves it out.
        ``model_card``: ``True`` puts the value on the card of an exported model, ``False`` keeps it off; by default it
        is there if the user gave it.
        ``single_process``: the value in a run on one device, with which ``parity`` compares; by default the same.

        Raises ``UsageError`` naming both owners when another plugin has the name, and ``ContractError`` for a
        declaration that makes no sense: a name that cannot be a flag, a key of the YAML file and an attribute of
        ``config`` at once, a default that is no value of the option (``core/contract/option_checks.py``).
        """
        option = Option(
            name,
            type,
            default,
            help,
            section,
            self.owner,
            choices,
            cuda_default,
            minimum,
            maximum,
            aliases,
            resume,
            replaces,
            path,
            per_node,
            transient,
            model_card,
            single_process,
        )
        check_declaration(option, [known.name for known in self], self.sections())
        for key in (name, *aliases):
            if key in self:
                self._refuse_taken(key)
        self._by_name[name] = replace(
            option,
            aliases=tuple(aliases),
            default=with_type(option, default),
            cuda_default=with_type(option, cuda_default),
        )
        for alias in aliases:
            self._aliases[alias] = name

    def _refuse_taken(self, key: str) -> None:
        owner = self.get(key).owner
        if owner == self.owner:
            raise ContractError(f"declares the option '{key}' twice")
        if owner == "core":
            raise ContractError(f"the option '{key}' is one of pipeloom's own: choose another name")
        if owner in self.defaults:
            raise UsageError(
                f"plugins '{owner}' and '{self.owner}' both declare the option '{key}': leave out the former, which is "
                f"a default (--plugins ...,-{owner})"
            )
        raise UsageError(
            f"plugins '{owner}' and '{self.owner}' both declare the option '{key}': select only one of them"
        )

    def __contains__(self, name: str) -> bool:
        return name in self._by_name or name in self._aliases

    def __iter__(self) -> Iterator[Option]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Option:
        return self._by_name[self._aliases.get(name, name)]

    def names(self) -> List[str]:
        return [*self._by_name, *self._aliases]

    def sections(self) -> List[str]:
        return list(dict.fromkeys(option.section for option in self))
