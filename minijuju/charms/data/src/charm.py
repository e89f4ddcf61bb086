"""Serve data_interfaces, version 1, or use it; the library does all else."""

import ops
from dpcharmlibs import interfaces


class DataCharm(ops.CharmBase):
    """A server on one endpoint, a client on the other."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.server = interfaces.ResourceProviderEventHandler(
            self, "server", interfaces.RequirerCommonModel
        )
        self.client = interfaces.ResourceRequirerEventHandler(
            self,
            "client",
            [interfaces.RequirerCommonModel(resource="words")],
            response_model=interfaces.ResourceProviderModel,
        )
        framework.observe(self.server.on.resource_requested, self._on_requested)
        framework.observe(self.on.rotate_action, self._on_rotate)
        framework.observe(self.client.on.resource_created, self._on_answer)
        framework.observe(self.client.on.authentication_updated, self._on_answer)
        framework.observe(self.on.client_relation_broken, self._on_gone)
        framework.observe(self.on.start, self._on_start)

    def _on_start(self, _: ops.StartEvent) -> None:
        self.unit.status = ops.ActiveStatus("started")

    def _on_requested(self, event: interfaces.ResourceRequestedEvent) -> None:
        response = interfaces.ResourceProviderModel(
            salt=event.request.salt,
            request_id=event.request.request_id,
            resource=event.request.resource,
            username="reader",
            password="first",
            endpoints="198.18.0.1:1",
        )
        self.server.set_response(event.relation.id, response)

    def _on_rotate(self, event: ops.ActionEvent) -> None:
        for relation in self.model.relations["server"]:
            for response in self.server.responses(relation, interfaces.ResourceProviderModel):
                response.password = "second"
                self.server.set_response(relation.id, response)

    def _on_answer(self, event: ops.EventBase) -> None:
        answer = event.response  # type: ignore[attr-defined]
        self.unit.status = ops.ActiveStatus(
            f"{answer.resource}: {answer.username}, {answer.password}"
        )

    def _on_gone(self, _: ops.RelationBrokenEvent) -> None:
        self.unit.status = ops.ActiveStatus("no server")


if __name__ == "__main__":
    ops.main(DataCharm)
