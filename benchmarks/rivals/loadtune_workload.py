"""The job as loadtune wants it: a file with get_workload()."""

from loadtune import Workload
from torch import nn
from training import given, make_dataset, make_network, make_optimizer


def train_step(model, optimizer, batch, device):
    images, labels = batch[0].to(device), batch[1].to(device)
    loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def get_workload() -> Workload:
    job, folder = given()
    return Workload(
        name=job.name,
        make_dataset=lambda: make_dataset(job, folder),
        make_model=lambda: make_network(job, folder),
        make_optimizer=lambda model: make_optimizer(model.parameters()),
        train_step=train_step,
        default_batch_size=job.batch_size,
    )
