"""Names for DICOM subjects and series that tell nothing of a patient: what leaves a data set bears these alone.

Subject k in the order of PatientIDs is "subject-000k", its series "subject-000k-ct-1" and so on. Numbers in order,
because a hash of a PatientID without a key can be undone by trying all of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from gen_radiology.sources.source import Source

SHORTEST = 3  # characters of a word that is taken out of texts


class Names:
    """Of the sources of one data set; texts are searched for the words of the headers that they came from."""

    def __init__(self, sources: Iterable[Source], words: Iterable[str] = ()) -> None:
        sources = list(sources)
        order = {subject: f"subject-{k + 1:04d}" for k, subject in enumerate(sorted({s.subject for s in sources}))}
        self._told: dict[str, str] = {word: "[removed]" for word in words if len(word) >= SHORTEST}
        count: Counter[str] = Counter()
        for source in sorted(sources, key=lambda s: (s.subject, s.id)):
            subject = order[source.subject]
            stem = f"{subject}-{source.modality.lower() or 'image'}"
            count[stem] += 1
            source.told_subject, source.told = subject, f"{stem}-{count[stem]}"
            self._told |= {source.subject: subject, source.id: source.told}
            source.where = source.where.replace(source.id, source.told)
        words_found = sorted(filter(None, self._told), key=len, reverse=True)  # an id before the subject that it holds
        self._pattern: re.Pattern[str] | None = None
        if words_found:
            self._pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, words_found))})(?![A-Za-z0-9])")

    def quiet(self, text: str) -> str:
        """A text in these names; only whole words are replaced, as a PatientID may be "1"."""
        return self._pattern.sub(lambda m: self._told[m[0]], text) if self._pattern else text
