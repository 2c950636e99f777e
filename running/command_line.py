"""A command line whose errors are short: one line of usage, the option, what was expected in words, what was got."""

import argparse
import difflib
import re
import typing
from collections.abc import Mapping
from pathlib import Path

import jsonargparse
import yaml

_GOT = (
    r"(?:Got value|Given value): (.*)$",
    r"with base 10: (.*)$",
    r"convert string to float: (.*)$",
    r"Not of type \w+: (.*?) does not conform",
    r"Unexpected config: *(.*)$",
)


def _load_yaml(text: str) -> object:
    """Every value stays text, from a file and from the command line, so that each type is read in one way.

    YAML 1.1, which PyYAML reads, takes 010 for 8 and 1:30 for 90. Text that YAML loads as nothing stays as it was
    typed: `#1`, for one, which is a comment in YAML.
    """
    loaded = yaml.load(text, Loader=yaml.BaseLoader)
    return text if loaded is None else loaded


def folder(name: str, text: str) -> Path:
    """The folder `text`, its `~` expanded. Raises ValueError, with the option's `name`, if it is not a local folder."""
    if not text or "://" in text or re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError(f"{name}: expected a folder of this machine, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        raise ValueError(f"{name}: no home folder is known for {text!r}; ./{text} is one here") from None


class _Help(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Keeps the lines of what stands before and behind the options."""


class Parser(jsonargparse.ArgumentParser):
    """Reads options and files of settings.

    Attributes:
        also_called: by what else users may know an option, its name.
    """

    also_called: Mapping[str, str] = {}

    def __init__(self, *arguments, **options) -> None:
        jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
        jsonargparse.set_loader("yaml", _load_yaml, (yaml.YAMLError,))
        options.setdefault("formatter_class", _Help)
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
        if unknown := re.match(r"(?:unrecognized arguments:|Option) '?(\S+?)'?(?:[=\s].*)?$", message, re.S):
            return self._unknown(unknown[1])
        if message.startswith("Unexpected config:"):
            return (
                f"--config: expected a file of lines `name: value`, got {repr(got.strip()) if got else 'an empty one'}"
            )
        if key := re.match(r'Parser key "(\w+)":', message):
            expected = next((_expectation(a) for a in self._actions if a.dest == key[1] and _expectation(a)), None)
            if expected and got is not None:
                return f"{key[1]}: expected {expected}, got {got}"
        message = re.sub(r'^Parser key "(\w+)":', r"--\1:", " ".join(message.split()))
        return re.sub(r"(\S{100})\S{400,}", r"\1…", message)

    def _unknown(self, word: str) -> str:
        """Says which option may have been meant by one that is not known."""
        name = word.lstrip("-")
        known = [option.lstrip("-") for option in self._option_string_actions if option.startswith("--")]
        near = self.also_called.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), None)
        hint = f"did you mean {near}?" if near else "options are said as --name value"
        return f"{word}: no such option here; {hint}"


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
