"""A command line whose errors are short: one line of usage, the option, what was expected in words, what was got."""

import argparse
import difflib
import os
import re
import shlex
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jsonargparse
import yaml
from jsonargparse.typing import extend_base_type

_GOT = (
    r"Not of type \w+: got ([^\n]*)",  # of `number` and `text`
    r"(?:Got value|Given value): ([^\n]*)",
    r"Unexpected config:\s*(.*)$",
)
CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff"  # what YAML does not give back, for a set of characters
# As YAML 1.2 spells numbers. Python would also read 1_000, and the digits of every script.
_WHOLE = r"[-+]?[0-9]{1,20}"
_DECIMAL = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"


def number(name: str, kind: type, fits: Callable[[float], bool], words: str) -> type:
    """A type of options: the numbers of a `kind`, int or float, that fit. `words` say what is expected."""
    spelled = _WHOLE if kind is int else _DECIMAL

    def check(cls: type, value: object) -> None:
        if isinstance(value, str):
            known = re.fullmatch(spelled, value.strip())
        else:
            known = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not known or not fits(kind(value)):
            raise ValueError(f"got {_shown(value)}")

    return extend_base_type(name, kind, check, words, register_key=(name,))


def text(name: str, pattern: str, words: str) -> type:
    """A type of options: the texts that match the `pattern`. `words` say what is expected."""

    def check(cls: type, value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"got {_shown(value)}")

    return extend_base_type(name, str, check, words, register_key=(name,))


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.strip() == value != "" else repr(value)


class Loader(yaml.BaseLoader):
    """Reads YAML with every value as text; a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        loaded = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in loaded:
                what = f"{key} is there twice" if isinstance(key, str) else "a key is not a name"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            loaded[key] = self.construct_object(value_node, deep=True)
        return loaded


def _load_yaml(text: str) -> object:
    """Every value stays text, from a file and from the command line, so that each type is read in one way.

    YAML 1.1, which PyYAML reads, takes 010 for 8 and 1:30 for 90. Text that YAML loads as nothing stays as it was
    typed: `#1`, for one, which is a comment in YAML.
    """
    loaded = yaml.load(text, Loader=Loader)
    return text if loaded is None else loaded


def folder(name: str, text: str) -> Path:
    """The folder `text`, its `~` expanded. Raises ValueError, with the option's `name`, if it is not a local folder."""
    if not text or "://" in text or re.search(f"[{CONTROL}]", text):
        raise ValueError(f"{name}: expected a folder of this machine, got {text!r}")
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # no such user
        raise ValueError(f"{name}: no home folder is known for {text!r}; ./{text} is one here") from None
    encoding = sys.getfilesystemencoding()
    if not str(path).isascii() and encoding.lower().replace("-", "") != "utf8":  # in which TensorFlow writes all paths
        raise ValueError(f"{name}: {path} would be written as {encoding}, and by TensorFlow as UTF-8; set PYTHONUTF8=1")
    if len(os.fsencode(path)) > 3000 or any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ValueError(f"{name}: expected names of up to 255 bytes, and 3,000 in all, got {path}")
    return path


def typed(path: Path | str) -> str:
    """`path` as a word of a command line."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def did_you_mean(name: str, known: Iterable[str], also_called: Mapping[str, str]) -> str | None:
    """What may have been meant by the `name` of an option that is not `known`, as a question or a remark."""
    near = also_called.get(name.lower()) or next(iter(difflib.get_close_matches(name.lower(), known, 1)), None)
    return f"did you mean {near}?" if near and " " not in near else near


class _Help(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Fills the paragraphs beside the options to the terminal's width, and keeps those with an indented line."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(each if re.search("^ ", each, re.M) else textwrap.fill(each, width) for each in paragraphs)


class Parser(jsonargparse.ArgumentParser):
    """Reads options and files of settings.

    Attributes:
        also_called: by what else users may know an option, its name.
    """

    also_called: Mapping[str, str] = {}

    def __init__(self, *arguments, **options) -> None:
        jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
        jsonargparse.set_loader("yaml", _load_yaml, (yaml.YAMLError,))
        options = {"formatter_class": _Help, "print_config": None} | options
        super().__init__(*arguments, allow_abbrev=False, **options)

    def group(self, titles: Mapping[str, str]) -> None:
        """Puts the options into groups of --help: by the first of each group, its title."""
        actions, group = list(self._actions), None
        for action in actions:
            if action.dest in titles:
                group = self.add_argument_group(titles[action.dest])
            if group is not None:
                for other in self._action_groups:
                    if action in other._group_actions:
                        other._group_actions.remove(action)
                group._group_actions.append(action)

    def error(self, message, ex=None):
        message = self._explained(message)
        if not self.exit_on_error:
            raise jsonargparse.ArgumentError(None, message)
        self.exit(2, f"usage: {self.prog} [options]; --help lists them\nerror: {message}\n")

    def _explained(self, message: str) -> str:
        """jsonargparse's `message` in our words, where there are some."""
        got = next((match[1] for pattern in _GOT if (match := re.search(pattern, message, re.S))), None)
        got = got if got is None or len(got) <= 60 else f"{got[:60]}…"
        if unknown := re.match(r"unrecognized arguments: '?(\S+?)'?(?:[=\s].*)?$", message, re.S):
            return f"{unknown[1]}: no such option here; {self._near(unknown[1]) or 'options are said as --name value'}"
        if unknown := re.match(r"Option '(.*?)' is|Group '(.*?)' does", message):
            name = unknown[1] or unknown[2]
            return f"{name}: no setting of this name here, in a file of settings; " + (
                self._near(name) or "perhaps it is one of a later version"
            )
        if message.startswith("Unexpected config:"):
            return (
                f"--config: expected a file of lines `name: value`, got {repr(got.strip()) if got else 'an empty one'}"
            )
        if key := re.match(r'(?:Parser key "|argument --|--)(\w+)"?(?: element \d+)?:', message):
            expected = next((_expectation(a) for a in self._actions if a.dest == key[1] and _expectation(a)), None)
            if expected and got is not None:
                return f"{key[1]}: expected {expected}, got {got}"
        message = re.sub(r'^Parser key "(\w+)":', r"--\1:", " ".join(message.split()))
        message = message.replace("Problems parsing config:", "--config: not YAML:")
        message = re.sub(r' in "<unicode string>", line (\d+), column (\d+):?', r" in line \1, column \2", message)
        return re.sub(r"(\S{100})\S{400,}", r"\1…", message)

    def _near(self, word: str) -> str | None:
        known = [option.removeprefix("--") for option in self._option_string_actions if option.startswith("--")]
        return did_you_mean(word.lstrip("-"), known, self.also_called)


def _expectation(action) -> str | None:
    """What an option expects, in words."""
    return _in_words(getattr(action, "_typehint", None) or action.type)


def _in_words(kind: object) -> str | None:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(kind) is tuple:
        several = arguments[-1] is Ellipsis
        count = "a list" if several else f"{len(arguments)} of them"
        return f"{count}, as '{list(range(1, 3 if several else len(arguments) + 1))}', each {_in_words(arguments[0])}"
    if type(None) in arguments:
        return f"{_in_words(arguments[0])}, or null"
    return {bool: "true or false", str: "a text"}.get(kind, getattr(kind, "__doc__", None))
