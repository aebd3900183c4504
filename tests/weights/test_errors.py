from weights.errors import CorruptLora, WeightsError


def test_a_message_names_file_key_problem_and_remedy() -> None:
    error = CorruptLora("is truncated", file="a.bin", key="to_q", remedy="Download it again")
    assert str(error) == "a.bin: to_q: is truncated. Download it again"
    assert str(CorruptLora("is truncated")) == "is truncated"
    assert isinstance(error, WeightsError)


def test_a_message_cannot_steer_a_terminal_or_forge_a_line_of_the_log() -> None:
    text = str(WeightsError("is odd", file="a.bin", key="\x1b[2Jx\nINFO all is well" + "y" * 10_000))
    assert text.isprintable()
    assert len(text) <= 2000
