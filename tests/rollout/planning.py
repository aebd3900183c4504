"""Takes plans step by step, with the controllers of a simulated cluster in between."""

from rollout.plan import Change, Done, Refuse


def reach(simulated, goal, most=100):
    """The steps it took to the goal, the controllers being quick."""
    steps = []
    for _ in range(most):
        step = simulated.cluster.read().plan(goal)
        steps.append(step)
        if isinstance(step, Done | Refuse):
            return steps
        if isinstance(step, Change):
            simulated.cluster.write(step)
        simulated.settle()
    return steps


def take_moves(simulated, goal, moves, check):
    """Single steps of the command and of controllers in any order; left where the moves end."""
    for move in moves:
        if move == "command":
            step = simulated.cluster.read().plan(goal)
            if isinstance(step, Change):
                simulated.cluster.write(step)
        else:
            simulated.run(move)
        check()
