"""In the style of the REINFORCE and actor-critic examples, with a small environment in place of gym: discounted returns, deque, smooth_l1_loss."""
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

torch.manual_seed(543)
rng = np.random.RandomState(3)
SavedAction = namedtuple('SavedAction', ['log_prob', 'value'])


class Corridor:
    """Walk right to the goal; each step costs."""
    def reset(self):
        self.x, self.t = 0, 0
        return self._state()

    def _state(self):
        s = np.zeros(5, dtype=np.float32)
        s[self.x] = 1
        return s + rng.randn(5).astype(np.float32) * 0.01

    def step(self, action):
        self.x = max(0, min(4, self.x + (1 if action == 1 else -1)))
        self.t += 1
        done = self.x == 4 or self.t >= 12
        return self._state(), 1.0 if self.x == 4 else -0.1, done, {}


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(5, 16)
        self.dropout = nn.Dropout(p=0.1)
        self.action_head = nn.Linear(16, 2)
        self.value_head = nn.Linear(16, 1)
        self.saved_actions, self.rewards = [], []

    def forward(self, x):
        x = F.relu(self.dropout(self.affine1(x)))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)
eps = np.finfo(np.float32).eps.item()


def select_action(state):
    state = torch.from_numpy(state).float()
    probs, state_value = policy(state)
    action = torch.multinomial(probs, 1)
    policy.saved_actions.append(SavedAction(torch.log(probs.gather(0, action)).squeeze(0), state_value))
    return action.item()


def finish_episode():
    R = 0
    policy_losses, value_losses = [], []
    returns = deque()
    for r in policy.rewards[::-1]:
        R = r + 0.99 * R
        returns.appendleft(R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    for (log_prob, value), R in zip(policy.saved_actions, returns):
        advantage = R - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([R])))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_actions[:]
    return loss.item()


env, running_reward = Corridor(), 0.0
for i_episode in range(1, 13):
    state, ep_reward = env.reset(), 0
    for t in range(1, 100):
        action = select_action(state)
        state, reward, done, _ = env.step(action)
        policy.rewards.append(reward)
        ep_reward += reward
        if done:
            break
    running_reward = 0.05 * ep_reward + (1 - 0.05) * running_reward
    loss = finish_episode()
    print(i_episode, t, round(ep_reward, 4), round(running_reward, 4), loss)
