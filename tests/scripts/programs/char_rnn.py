"""In the style of the name classification and char-RNN tutorials: an RNN of Linear layers, one-hot lines, manual updates, topk, GRU sampling."""
import random
import string
import unicodedata

import torch
import torch.nn as nn

all_letters = string.ascii_letters + " .,;'-"
n_letters = len(all_letters)
random.seed(0)
torch.manual_seed(0)


def unicodeToAscii(s):
    return ''.join(c for c in unicodedata.normalize('NFD', s) if unicodedata.category(c) != 'Mn' and c in all_letters)


names = {'Irish': ['O’Néàl', 'Brien', 'Doyle', 'Kelly'], 'Greek': ['Adamou', 'Lekas', 'Pappas', 'Horiatis'], 'Czech': ['Novák', 'Dvořák', 'Sýkora', 'Benes']}
category_lines = {k: [unicodeToAscii(n) for n in v] for k, v in names.items()}
all_categories = list(category_lines)


def lineToTensor(line):
    tensor = torch.zeros(len(line), 1, n_letters)
    for li, letter in enumerate(line):
        tensor[li][0][all_letters.find(letter)] = 1
    return tensor


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(RNN, self).__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        hidden = torch.tanh(self.i2h(combined))
        return self.softmax(self.h2o(hidden)), hidden

    def initHidden(self):
        return torch.zeros(1, self.hidden_size)


rnn = RNN(n_letters, 16, len(all_categories))
criterion = nn.NLLLoss()
learning_rate = 0.05
current_loss, guesses = 0, []
for step in range(1, 13):
    category = random.choice(all_categories)
    line = random.choice(category_lines[category])
    category_tensor = torch.tensor([all_categories.index(category)], dtype=torch.long)
    line_tensor = lineToTensor(line)
    hidden = rnn.initHidden()
    rnn.zero_grad()
    for i in range(line_tensor.size()[0]):
        output, hidden = rnn(line_tensor[i], hidden)
    loss = criterion(output, category_tensor)
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-learning_rate)
    current_loss += loss.item()
    top_n, top_i = output.topk(1)
    guesses.append(all_categories[top_i[0].item()])
    if step % 6 == 0:
        print(step, current_loss / 6, guesses)
        current_loss, guesses = 0, []

confusion = torch.zeros(3, 3)
with torch.no_grad():
    for k, category in enumerate(all_categories):
        for line in category_lines[category]:
            hidden = rnn.initHidden()
            for letter in lineToTensor(line):
                output, hidden = rnn(letter, hidden)
            confusion[k][output.topk(1)[1].item()] += 1
for i in range(3):
    confusion[i] = confusion[i] / confusion[i].sum()
print(confusion)


class CharGRU(nn.Module):
    def __init__(self, size, hidden):
        super().__init__()
        self.encoder = nn.Embedding(size, hidden)
        self.gru = nn.GRU(hidden, hidden, 2)
        self.decoder = nn.Linear(hidden, size)

    def forward(self, input, hidden):
        encoded = self.encoder(input.view(1, -1))
        output, hidden = self.gru(encoded.view(1, input.numel(), -1), hidden)
        return self.decoder(output.view(input.numel(), -1)), hidden


text = "to be or not to "
vocab = sorted(set(text))
ids = torch.LongTensor([[vocab.index(c) for c in text]]).t()
net = CharGRU(len(vocab), 12)
opt = torch.optim.Adam(net.parameters(), lr=0.02)
for epoch in range(3):
    hidden, loss = torch.zeros(2, 1, 12), 0
    opt.zero_grad()
    for c in range(len(text) - 1):
        output, hidden = net(ids[c], hidden)
        loss += nn.functional.cross_entropy(output, ids[c + 1])
    loss.backward()
    opt.step()
    print(epoch, loss.data.item() / len(text))
hidden, out = torch.zeros(2, 1, 12), "t"
with torch.no_grad():
    for _ in range(8):
        output, hidden = net(torch.tensor([vocab.index(out[-1])]), hidden)
        out += vocab[torch.multinomial(output.data.view(-1).div(0.8).exp(), 1)[0]]
print(out)
