"""Whole GPU and MIG instance of one card exclude each other: held by triggers."""

from django.db import migrations

POSTGRESQL = """
CREATE FUNCTION workspaces_assignment_card() RETURNS trigger AS $$
DECLARE
    card varchar;
    own_parent varchar;
BEGIN
    IF NEW.state NOT IN ('reserved', 'bound') THEN
        RETURN NEW;
    END IF;
    -- From reserved to bound nothing new is claimed: no lock, so no order of locks to break.
    IF TG_OP = 'UPDATE' AND OLD.state IN ('reserved', 'bound')
       AND OLD.device_id = NEW.device_id THEN
        RETURN NEW;
    END IF;
    SELECT parent_id INTO own_parent FROM workspaces_device WHERE uuid = NEW.device_id;
    card := COALESCE(own_parent, NEW.device_id);
    -- The card's row serialises everybody; the statement after it sees what they committed.
    PERFORM 1 FROM workspaces_device WHERE uuid = card FOR NO KEY UPDATE;
    IF EXISTS (
        SELECT 1 FROM workspaces_assignment a JOIN workspaces_device d ON d.uuid = a.device_id
        WHERE a.state IN ('reserved', 'bound') AND a.id IS DISTINCT FROM NEW.id
          AND ((own_parent IS NULL AND d.parent_id = NEW.device_id)
               OR (own_parent IS NOT NULL AND d.uuid = own_parent))
    ) THEN
        RAISE EXCEPTION 'assignment_card_exclusive: % is held in another shape', card
            USING ERRCODE = 'exclusion_violation';
    END IF;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER assignment_card_exclusive
    BEFORE INSERT OR UPDATE OF state, device_id ON workspaces_assignment
    FOR EACH ROW EXECUTE FUNCTION workspaces_assignment_card();
"""

SQLITE = """
CREATE TRIGGER assignment_card_exclusive_{name}
BEFORE {event} ON workspaces_assignment
WHEN NEW.state IN ('reserved', 'bound') AND EXISTS (
    SELECT 1 FROM workspaces_assignment a
    JOIN workspaces_device d ON d.uuid = a.device_id
    JOIN workspaces_device own ON own.uuid = NEW.device_id
    WHERE a.state IN ('reserved', 'bound') AND a.id IS NOT NEW.id
      AND ((own.parent_id IS NULL AND d.parent_id = own.uuid)
           OR (own.parent_id IS NOT NULL AND d.uuid = own.parent_id))
)
BEGIN
    SELECT RAISE(ABORT, 'assignment_card_exclusive');
END
"""


def create_triggers(apps, schema_editor):
    """Create the triggers for the database in use."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL, params=None)
    else:
        schema_editor.execute(SQLITE.format(name="insert", event="INSERT"))
        schema_editor.execute(SQLITE.format(name="update", event="UPDATE OF state, device_id"))


def drop_triggers(apps, schema_editor):
    """Drop them again."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER assignment_card_exclusive ON workspaces_assignment")
        schema_editor.execute("DROP FUNCTION workspaces_assignment_card()")
    else:
        schema_editor.execute("DROP TRIGGER assignment_card_exclusive_insert")
        schema_editor.execute("DROP TRIGGER assignment_card_exclusive_update")


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0001_initial")]
    operations = [migrations.RunPython(create_triggers, drop_triggers)]
