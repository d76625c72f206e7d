"""What the doctor finds on a machine made of files, in one area of its checks."""
from forno_doctor import diagnose
from forno_doctor.words import LANGUAGES, Words


def of(area):
    """(found, only) for an area: found(machine) is its findings by id, only(machine) the one that must be there."""
    def found(machine) -> dict:
        findings = [f for f in diagnose(machine.host()).findings if f.area == area]
        for words in map(Words, LANGUAGES):
            for f in findings: assert all([words(f"{f.id}.{part}", **f.data) for part in ("title", "cause", *(["fix"] if words.has(f"{f.id}.fix") else []))])
        assert len({f.id for f in findings}) == len(findings)
        return {f.id: f for f in findings}

    def only(machine):
        by_id = found(machine)
        assert len(by_id) == 1, sorted(by_id)
        return next(iter(by_id.values()))
    return found, only
