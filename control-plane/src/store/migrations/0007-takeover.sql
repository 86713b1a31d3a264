-- A standby commits nothing as a standby any more: it is made primary.
alter table workspaces drop column standby_save_epoch;
