"""what API processes have under way, and what is good once."""

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'


def upgrade() -> None:
    integer = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    op.create_table(
        'unfinished',
        sa.Column('kind', sa.String(length=32), nullable=False),
        sa.Column('ident', sa.String(length=80), nullable=False),
        sa.Column('process_id', sa.Text(), nullable=False),
        sa.Column('project_id', sa.Text(), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint('kind', 'ident', name=op.f('pk_unfinished')),
    )
    op.create_index(op.f('ix_unfinished_process_id'), 'unfinished', ['process_id'])
    op.create_table(
        'identity_used_once',
        sa.Column('kind', sa.String(length=16), nullable=False),
        sa.Column('value', sa.String(length=64), nullable=False),
        sa.Column('number', integer, nullable=False),
        sa.Column('expires_at', sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint('kind', 'value', name=op.f('pk_identity_used_once')),
    )
    op.create_index(op.f('ix_identity_used_once_expires_at'), 'identity_used_once', ['expires_at'])
    _take_over()


def _take_over() -> None:
    """What an earlier version was at when it ended is undone as if a process of this one had been."""
    op.execute(
        "INSERT INTO unfinished (kind, ident, process_id, project_id, created_at)"
        " SELECT CASE WHEN status = 'importing' THEN 'import' ELSE 'upload' END, upload_id, '', '', updated_at"
        " FROM images WHERE upload_id IS NOT NULL"
    )
    op.execute(
        "INSERT INTO unfinished (kind, ident, process_id, project_id, created_at)"
        " SELECT 'snapshot', id, '', '', updated_at FROM images"
        " WHERE status IN ('queued', 'saving') AND upload_id IS NULL"
        " AND id IN (SELECT image_id FROM image_properties WHERE name = 'instance_uuid')"
        " AND id NOT IN (SELECT image_id FROM shelved_images)"
    )
