"""Attention of all cells on one text token, as an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ditprobe.explorer.wire import Answer, as_levels
from store.errors import InvalidInputError, NotRecordedError

Compute = Callable[[Callable[[], bool]], np.ndarray | None]


def check_token(record: Mapping[str, np.ndarray], token: int) -> None:
    """Check that a record has a text token.

    Raises
    ------
    NotRecordedError, InvalidInputError
        It has no text, or not that many tokens.
    """
    if "text_query" not in record:
        raise NotRecordedError("text tokens were not recorded: this self-attention has none.")
    tokens = record["text_query"].shape[1]
    if token >= tokens:
        raise InvalidInputError(f"text token {token} does not exist: there are {tokens}.")


def attention_to_token(
    record: Mapping[str, np.ndarray],
    token: int | None,
    scale: float | None,
    kept: Callable[[Compute], np.ndarray | None],
) -> Answer:
    """Attention of every cell on a text token, head by head and their mean.

    Parameters
    ----------
    record : arrays by name
    token : its position among the text tokens
    scale : of the products, by default ``1 / sqrt(channel)``
    kept : returns what divides each row of the record, computed where it is not kept; None if it was stopped

    Returns
    -------
    Answer
        Arrays ``mean`` (1, frame, y, x) float32, ``heads`` (head, frame, y, x) levels, shares of the row of each cell,
        and ``text`` (head, token) float32, the average share of each text token. ``superseded`` where something else
        was asked for meanwhile.

    Raises
    ------
    NotRecordedError, InvalidInputError
    """
    from analyses.attention.text_maps import row_normalisers, text_shares

    if token is None:
        raise InvalidInputError("a map of a text token needs the token.")
    check_token(record, token)
    query, key, text = record["query"], record["key"], record["text_key"]
    normalisers = kept(lambda stopped: row_normalisers(query, key, text, scale=scale, stopped=stopped))
    if normalisers is None:
        return Answer({"kind": "to_text", "superseded": True})
    heads, tokens = len(query), text.shape[1]
    maps, averages = np.empty(query.shape[:-1], np.float32), np.empty((heads, tokens), np.float32)
    for head in range(heads):  # one head in memory at a time
        one = slice(head, head + 1)
        shares = text_shares(query[one], text[one], normalisers[one], scale=scale)[0]
        maps[head], averages[head] = shares[:, token].reshape(query.shape[1:-1]), shares.mean(0)
    levels, largest = as_levels(maps)
    arrays = {"mean": maps.mean(0, dtype=np.float32)[None], "heads": levels, "text": averages}
    return Answer({"kind": "to_text", "superseded": False}, arrays, {"heads": largest})
