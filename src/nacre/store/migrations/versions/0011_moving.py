"""servers move between hosts."""

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'


def upgrade() -> None:
    op.create_table(
        'host_drains',
        sa.Column('host_id', sa.String(length=64), nullable=False),
        sa.Column('total', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
        sa.Column('staying', sa.JSON(none_as_null=True), nullable=False),
        sa.Column('started_at', sa.Float(precision=53), nullable=False),
        sa.Column('finished_at', sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(['host_id'], ['hosts.id'], name=op.f('fk_host_drains_host_id'), ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('host_id', name=op.f('pk_host_drains')),
    )
    number = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    with op.batch_alter_table('migrations', schema=None) as batch_op:
        batch_op.add_column(sa.Column('vcpus', number, server_default='0', nullable=False))
        batch_op.add_column(sa.Column('memory_mb', number, server_default='0', nullable=False))
        batch_op.add_column(sa.Column('disk_gb', number, server_default='0', nullable=False))
        batch_op.add_column(sa.Column('power', sa.Text(), server_default='', nullable=False))
        batch_op.add_column(sa.Column('automatic', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column('message', sa.Text(), server_default='', nullable=False))
        batch_op.create_index(batch_op.f('ix_migrations_source_host_id'), ['source_host_id'], unique=False)
