"""What the tests ask for: sentences that the embedded model draws well in both looks."""

from tests.cluster.pictures import Question

HEART = Question("빨간 하트를 그려 줘", seed=1)
HEART_SHOWS = "❤"

LIGHT = [
    Question(sentence, seed, steps=4, guidance=1.0)
    for sentence, seed in (
        ("빨간 하트를 그려 줘", 3),
        ("밤하늘의 초승달", 1),
        ("밤하늘의 초승달", 4),
        ("핼러윈 호박", 1),
        ("핼러윈 호박", 3),
        ("핼러윈 호박", 4),
    )
]
"""For loads: few steps and no guidance, a fifth of a usual picture's work."""

LONG = [Question(question.prompt, question.seed, steps=30) for question in LIGHT]
"""With guidance and more steps than usual: seconds each, so that a pod can be met while it draws."""
