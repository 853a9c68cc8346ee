"""What a converted set may say in words: messages and names of regions without paths, names and numbers of patients."""

from __future__ import annotations

import os
import re
from typing import Any

from attrs import Factory, define

from gen_core.writer import Conversion
from gen_radiology.conversion.converted_files import Unit
from gen_radiology.conversion.deidentify import gives_away, telling_words, without


@define(eq=False)
class Discretion:
    """words: patient -> what must not be told of them. With `asked.keep_ids`, everything may be told."""

    asked: Conversion
    words: dict[str, set[str]] = Factory(dict)

    def know(self, unit: Unit, data: Any = None) -> None:
        """Remember what must not be told of a patient: from the whole header where there is one."""
        one, known = unit.series, self.words.setdefault(unit.patient, set())
        known |= {w.casefold() for w in (one.subject, one.id, one.study_uid, one.series_uid) if len(w) > 2}
        if data is not None:
            known |= telling_words(data)

    def hides(self, name: str, patient: str) -> bool:
        """Whether a name tells of the patient."""
        return not self.asked.keep_ids and gives_away(name, self.words.get(patient, set()))

    def quiet(self, text: str, patient: str, unit: Unit | None = None) -> str:
        """Text without what tells of a patient; of a file of nobody, without what tells of any."""
        if self.asked.keep_ids:
            return text
        words = self.words.get(patient, set()) if patient else set().union(*self.words.values())
        said = {str(p).casefold() for p in (self.asked.source, self.asked.source.resolve(), *self.asked.masks)}
        said |= {file.path.name.casefold() for file in unit.masks} if unit else set()
        return without(text, {word for word in said if len(word) > 2} | words)

    def reason(self, row: dict[str, Any]) -> str:
        """Why something was left out, without paths."""
        if self.asked.keep_ids:
            return row["reason"]
        text = re.sub(re.escape(str(self.asked.source)) + ".*?(?=: |; |$)", "[file]", row["reason"])
        text = " ".join("[file]" if os.sep in word else word for word in text.split())
        return self.quiet(text, row["patient"])
