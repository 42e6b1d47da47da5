"""several API processes serve over one store."""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'


def upgrade() -> None:
    op.create_table(
        'api_processes',
        sa.Column('id', sa.String(length=64), nullable=False),
        sa.Column('hostname', sa.Text(), nullable=False),
        sa.Column('address', sa.Text(), nullable=False),
        sa.Column('url', sa.Text(), nullable=False),
        sa.Column('version', sa.Text(), nullable=False),
        sa.Column('counter', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
        sa.Column('heard', sa.JSON(none_as_null=True), nullable=False),
        sa.Column('leads', sa.Boolean(), nullable=False),
        sa.Column('started_at', sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_api_processes')),
    )
    state = op.create_table(
        'schema_state',
        sa.Column('id', sa.String(length=64), nullable=False),
        sa.Column('oldest', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_schema_state')),
    )
    op.bulk_insert(state, [{'id': 'schema', 'oldest': '0012'}])
    changes = op.create_table(
        'identity_state',
        sa.Column('id', sa.String(length=64), nullable=False),
        sa.Column('generation', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_identity_state')),
    )
    op.bulk_insert(changes, [{'id': 'identity', 'generation': 0}])
    with op.batch_alter_table('hosts', schema=None) as batch_op:
        batch_op.add_column(sa.Column('stream', sa.Text(), server_default='', nullable=False))
