"""SQuAD inputs and answers as BERT's run_squad.py makes them: by words and text, without offsets of tokens, position by
position.

Written to be plain, not quick; what pipeloom does by offsets and arrays is compared with it.
"""

from __future__ import annotations

import math


def inputs(question, tokenizer, seq_length, doc_stride, max_query_length):
    """[(input_ids, segment_ids, start_position, end_position, {place: (first character of the word, end of the word)},
    max_context places)]
    """
    number_of = {token: number for number, token in enumerate(tokenizer.tokens)}
    words = words_of(question.context)
    tokens, word_of = [], []
    for number, (begin, end) in enumerate(words):
        pieces = [tokenizer.tokens[piece] for piece in tokenizer.encode(question.context[begin:end])]
        tokens += pieces
        word_of += [number] * len(pieces)
    query = [tokenizer.tokens[piece] for piece in tokenizer.encode(question.text)][:max_query_length]
    answer = answer_tokens(question, words, tokens, word_of, tokenizer)
    room = seq_length - len(query) - 3
    windows, begin = [], 0
    while begin < len(tokens):
        count = min(room, len(tokens) - begin)
        windows.append((begin, count))
        if begin + count == len(tokens):
            break
        begin += min(count, doc_stride)
    made = []
    for begin, count in windows:
        text = ["[CLS]", *query, "[SEP]", *tokens[begin : begin + count], "[SEP]"]
        ids = [number_of[token] for token in text]
        padding = [0] * (seq_length - len(ids))
        offset = len(query) + 2
        start = end = 0
        if answer is not None and begin <= answer[0] and answer[1] < begin + count:
            start, end = answer[0] - begin + offset, answer[1] - begin + offset
        places = {offset + place: words[word_of[begin + place]] for place in range(count)}
        best = {offset + place for place in range(count) if has_max_context(windows, (begin, count), begin + place)}
        made.append((ids + padding, [0] * offset + [1] * (count + 1) + padding, start, end, places, best))
    return made


def words_of(text):
    """(first character, end) of each run of characters without white space."""
    words, begin = [], None
    for place, character in enumerate([*text, " "]):
        if character in " \t\r\n\u202f":
            if begin is not None:
                words.append((begin, place))
            begin = None
        elif begin is None:
            begin = place
    return words


def answer_tokens(question, words, tokens, word_of, tokenizer):
    """The tokens of the answer's words, or fewer of them that spell just the answer."""
    if not question.answers:
        return None
    answer = question.answers[0]
    held = [
        number
        for number, (begin, end) in enumerate(words)
        if begin < answer.start + len(answer.text) and end > answer.start
    ]
    first, last = word_of.index(held[0]), len(word_of) - 1 - word_of[::-1].index(held[-1])
    spelled = [tokenizer.tokens[piece] for piece in tokenizer.encode(answer.text)]
    for begin in range(first, last + 1):
        for end in range(last, begin - 1, -1):
            if tokens[begin : end + 1] == spelled:
                return begin, end
    return first, last


def has_max_context(windows, window, token):
    scores = {}
    for begin, count in windows:
        if begin <= token < begin + count:
            scores[begin, count] = min(token - begin, begin + count - 1 - token) + 0.01 * count
    return max(scores, key=scores.get) == window  # the first of equal ones


def best_answers(context, windows, starts, ends, n_best, longest):
    """[(text, score, probability)] of the best spans that may be an answer, each text once."""
    spans = []
    for number, window in enumerate(windows):
        for first in range(len(window.spans)):
            for last in range(first, min(first + longest, len(window.spans))):
                if window.max_context[first]:
                    score = float(starts[number][window.position + first]) + float(ends[number][window.position + last])
                    spans.append((-score, number, first, last, context[window.spans[first][0] : window.spans[last][1]]))
    found = {}
    for minus_score, _, _, _, text in sorted(spans):
        if len(found) < n_best and text not in found:
            found[text] = -minus_score
    total = sum(math.exp(score) for score in found.values())
    return [(text, score, math.exp(score) / total) for text, score in found.items()]
