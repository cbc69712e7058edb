"""The command line: what was given, read as kube-proxy's flag library (pflag) reads it."""

from __future__ import annotations

import difflib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpx.config.errors import ConfigError
from kpx.config.flags import FLAGS, SHORT, Flag


@dataclass(frozen=True, slots=True)
class Arguments:
    """The flags that were given, by their names with dashes; a flag that is missing here has its default."""

    values: Mapping[str, object]

    @property
    def help(self) -> bool:
        return self._given("help")

    @property
    def version(self) -> str:
        """``true`` or ``raw`` where the version is asked for, else empty."""
        return self._text("version").removeprefix("false")

    @property
    def config(self) -> Path | None:
        return self._path("config")

    @property
    def write_config_to(self) -> Path | None:
        return self._path("write-config-to")

    @property
    def cleanup(self) -> bool:
        return self._given("cleanup")

    @property
    def init_only(self) -> bool:
        return self._given("init-only")

    @property
    def master(self) -> str:
        """The API server's URL, which overrides the kubeconfig's; empty if it was not given."""
        return self._text("master")

    @property
    def manifests(self) -> Path | None:
        return self._path("manifests")

    @property
    def take_over(self) -> bool:
        return self._given("take-over")

    def _given(self, name: str) -> bool:
        return self.values.get(name) is True

    def _text(self, name: str) -> str:
        return str(self.values.get(name, ""))

    def _path(self, name: str) -> Path | None:
        text = self._text(name)
        return Path(text) if text else None


def parse_arguments(argv: Sequence[str], program: str = "kube-proxy") -> Arguments:
    """Read a command line without its program; ConfigError, in one sentence, if it cannot be read.

    A switch takes a value only after ``=``; ``--`` ends the flags; underscores in names are dashes; of a flag given
    twice the last value counts, lists and feature gates are joined.
    """
    values: dict[str, object] = {}
    words, positional = deque(argv), list[str]()
    while words:
        word = words.popleft()
        if word == "--":
            positional += words
            break
        if word == "-" or not word.startswith("-"):
            positional.append(word)
        elif word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            _take(values, _named(name), text if equals else None, words)
        else:
            _take_short(values, word, words)
    arguments = Arguments(values)
    if any(positional) and not arguments.help:
        got = " ".join(json.dumps(word, ensure_ascii=False) for word in positional)
        raise ConfigError(f'"{program}" does not take any arguments, got [{got}]')
    return arguments


def notices(arguments: Arguments) -> list[str]:
    """A warning for each flag that was given and is deprecated, or that kpx has no use for."""
    given = [FLAGS[name] for name in arguments.values]
    return [f"--{flag.name} is deprecated, use --{flag.deprecated}" for flag in given if flag.deprecated] + [
        f"--{flag.name} is accepted, but not used: {flag.unused}" for flag in given if flag.unused
    ]


def flag_values(arguments: Arguments) -> dict[str, str]:
    """Every flag with the text of its value, given or default, in alphabetical order."""
    given = arguments.values
    return {
        name: flag.type.show(given[name]) if name in given else flag.default for name, flag in sorted(FLAGS.items())
    }


def log_flags(arguments: Arguments) -> list[str]:
    """The lines that are logged at the start, at verbosity 1."""
    return [f"FLAG: --{name}={json.dumps(text, ensure_ascii=False)}" for name, text in flag_values(arguments).items()]


def _named(name: str) -> Flag:
    flag = FLAGS.get(name.replace("_", "-"))
    if flag is None:
        near = difflib.get_close_matches(name, FLAGS, n=1)
        raise ConfigError(f"unknown flag: --{name}" + (f", did you mean --{near[0]}?" if near else ""))
    return flag


def _take_short(values: dict[str, object], word: str, words: deque[str]) -> None:
    """Read ``-v4``, ``-v=4``, ``-v 4``, ``-h`` or several letters in one word."""
    letters = word[1:]
    while letters:
        flag, rest = SHORT.get(letters[0]), letters[1:]
        if flag is None:
            near = difflib.get_close_matches(word[1:].partition("=")[0], FLAGS, n=1)
            hint = f", did you mean --{near[0]}?" if near else ""
            raise ConfigError(f"unknown shorthand flag: '{letters[0]}' in {word}{hint}")
        if rest.startswith("="):
            return _take(values, flag, rest[1:], words)
        if flag.type.bare is None:
            return _take(values, flag, rest or None, words)
        _take(values, flag, None, words)
        letters = rest
    return None


def _take(values: dict[str, object], flag: Flag, text: str | None, words: deque[str]) -> None:
    """Read a flag's value: `text`, or what the flag stands for alone, or the next word."""
    if text is None:
        text = flag.type.bare
    if text is None:
        if not words:
            raise ConfigError(f"flag needs an argument: --{flag.name}")
        text = words.popleft()
    try:
        value = flag.type.parse(text)
    except ValueError as error:
        raise ConfigError(f'invalid argument "{text}" for "--{flag.name}" flag: {error}') from None
    earlier = values.get(flag.name)
    values[flag.name] = value if earlier is None or flag.type.merge is None else flag.type.merge(earlier, value)
