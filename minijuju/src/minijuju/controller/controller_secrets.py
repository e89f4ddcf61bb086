"""The controller's verbs on user secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minijuju.model import errors, records, secrets

if TYPE_CHECKING:
    from minijuju.model import store


class SecretVerbs:
    """See `controller.Controller`."""

    store: store.Store

    if TYPE_CHECKING:

        def state(self, model: str) -> store.ModelState:
            """A model's records by its name."""
            ...

    def _find(self, state: store.ModelState, name: str) -> records.Secret:
        found = next((s for s in state.secrets if not s.owner and s.label == name), None)
        if found is None and name.rsplit("/", 1)[-1].startswith(("secret:", "c", "d")):
            try:
                found = state.secrets.get(secrets.bare(name))
            except errors.JujuError:
                found = None
        if found is None or found.owner:
            raise errors.JujuError(f'secret "{name}" not found')
        return found

    def add_secret(self, model: str, name: str, data: dict[str, str], info: str = "") -> str:
        """Make a user secret (keys may end in `#base64`); returns its URI."""
        state = self.state(model)
        with self.store.transaction():
            if any(not other.owner and other.label == name for other in state.secrets):
                raise errors.JujuError(f'secret with name "{name}" already exists')
            secret = records.Secret(secrets.new_id(), "", name, info)
            secrets.add_revision(secret, secrets.plain(data))
            state.secrets.add(secret.id, secret)
        return f"secret:{secret.id}"

    def update_secret(
        self,
        model: str,
        secret: str,
        data: dict[str, str] | None = None,
        info: str | None = None,
        name: str = "",
        auto_prune: bool | None = None,
    ) -> None:
        """Change a user secret given by name or URI."""
        state = self.state(model)
        with self.store.transaction():
            found = self._find(state, secret)
            if data:
                secrets.add_revision(found, secrets.plain(data))
            found.description = found.description if info is None else info
            found.label = name or found.label
            found.auto_prune = found.auto_prune if auto_prune is None else auto_prune
            secrets.prune(state)

    def grant_secret(self, model: str, secret: str, applications: list[str]) -> None:
        """Let applications read a user secret."""
        state = self.state(model)
        with self.store.transaction():
            found = self._find(state, secret)
            for name in applications:
                if name not in state.applications:
                    raise errors.JujuError(f'application "{name}" not found')
                grant = records.Grant(name)
                if grant not in found.grants:
                    found.grants.append(grant)

    def revoke_secret(self, model: str, secret: str, applications: list[str]) -> None:
        """Take that leave back."""
        state = self.state(model)
        with self.store.transaction():
            found = self._find(state, secret)
            found.grants = [grant for grant in found.grants if grant.target not in applications]

    def remove_secret(self, model: str, secret: str, revision: int | None = None) -> None:
        """Remove a user secret or one revision of it."""
        state = self.state(model)
        with self.store.transaction():
            secrets.remove_revision(state, self._find(state, secret), revision)
