"""In the style of DQN and PPO code: replay memory, target network with soft updates, masks, gather, clipped surrogate, GAE, entropy."""
import math
import random
from collections import deque, namedtuple
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions import Categorical, Normal

random.seed(0)
np.random.seed(0)
torch.manual_seed(0)
Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward'))


class ReplayMemory(object):
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_observations, n_actions):
        super(DQN, self).__init__()
        self.layer1 = nn.Linear(n_observations, 16)
        self.layer2 = nn.Linear(16, 16)
        self.layer3 = nn.Linear(16, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


class Walk:
    def reset(self):
        self.p, self.t = np.array([0.0, 0.0], dtype=np.float32), 0
        return self.p.copy(), {}

    def step(self, a):
        self.p = self.p + np.array([[0.3, 0], [-0.3, 0], [0, 0.3]][a], dtype=np.float32)
        self.t += 1
        reward = float(-np.abs(self.p - 1).sum())
        return self.p.copy(), reward, bool(np.abs(self.p - 1).max() < 0.2), self.t >= 10, {}


policy_net, target_net = DQN(2, 3), DQN(2, 3)
target_net.load_state_dict(policy_net.state_dict())
optimizer = optim.AdamW(policy_net.parameters(), lr=1e-3, amsgrad=True)
memory, env, steps_done, TAU = ReplayMemory(100), Walk(), 0, 0.05


def select_action(state):
    global steps_done
    eps_threshold = 0.05 + 0.85 * math.exp(-1. * steps_done / 20)
    steps_done += 1
    if random.random() > eps_threshold:
        with torch.no_grad():
            return policy_net(state).max(1).indices.view(1, 1)
    return torch.tensor([[random.randrange(3)]], dtype=torch.long)


for i_episode in range(4):
    state, info = env.reset()
    state = torch.tensor(state, dtype=torch.float32).unsqueeze(0)
    last = None
    for t in count():
        action = select_action(state)
        observation, reward, terminated, truncated, _ = env.step(action.item())
        reward = torch.tensor([reward])
        done = terminated or truncated
        next_state = None if terminated else torch.tensor(observation, dtype=torch.float32).unsqueeze(0)
        memory.push(state, action, next_state, reward)
        state = next_state
        if len(memory) >= 8:
            batch = Transition(*zip(*memory.sample(8)))
            non_final_mask = torch.tensor(tuple(map(lambda s: s is not None, batch.next_state)), dtype=torch.bool)
            non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
            state_action_values = policy_net(torch.cat(batch.state)).gather(1, torch.cat(batch.action))
            next_state_values = torch.zeros(8)
            with torch.no_grad():
                next_state_values[non_final_mask] = target_net(non_final_next_states).max(1).values
            expected = (next_state_values * 0.99) + torch.cat(batch.reward)
            loss = nn.SmoothL1Loss()(state_action_values, expected.unsqueeze(1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
            optimizer.step()
            last = loss.item()
        target_net_state_dict, policy_net_state_dict = target_net.state_dict(), policy_net.state_dict()
        for key in policy_net_state_dict:
            target_net_state_dict[key] = policy_net_state_dict[key] * TAU + target_net_state_dict[key] * (1 - TAU)
        target_net.load_state_dict(target_net_state_dict)
        if done:
            break
    print(i_episode, t, last)

actor = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
critic = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
opt = optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-3, eps=1e-5)
obs = torch.randn(32, 2)
dist = Categorical(logits=actor(obs))
actions = dist.sample()
old_logprob, rewards, dones = dist.log_prob(actions).detach(), torch.randn(32), (torch.rand(32) < 0.1).float()
with torch.no_grad():
    values = critic(obs).flatten()
    advantages, last = torch.zeros(32), 0
    for t in reversed(range(32)):
        nextvalue = values[t + 1] if t < 31 else torch.tensor(0.)
        delta = rewards[t] + 0.99 * nextvalue * (1 - dones[t]) - values[t]
        advantages[t] = last = delta + 0.99 * 0.95 * (1 - dones[t]) * last
    returns = advantages + values
for epoch in range(3):
    for idx in torch.randperm(32).split(16):
        d = Categorical(logits=actor(obs[idx]))
        ratio = (d.log_prob(actions[idx]) - old_logprob[idx]).exp()
        adv = (advantages[idx] - advantages[idx].mean()) / (advantages[idx].std() + 1e-8)
        pg = torch.max(-adv * ratio, -adv * torch.clamp(ratio, 0.8, 1.2)).mean()
        v = 0.5 * ((critic(obs[idx]).view(-1) - returns[idx]) ** 2).mean()
        loss = pg - 0.01 * d.entropy().mean() + v * 0.5
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)
        opt.step()
    print('ppo', epoch, loss.item(), (ratio.log().mean()).item())
n = Normal(torch.zeros(3), torch.ones(3))
print(n.rsample().tolist(), n.log_prob(torch.ones(3)).sum().item())
