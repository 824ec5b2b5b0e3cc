/**
 * The relations of Postgres 15's pg_catalog that clients ask for, with all their columns, from its own catalog. After a colon: i integer, b boolean,
 * f float, a array of integers, t array of texts; else text.
 */

export const catalogColumns = {
  pg_namespace: 'oid:i nspname nspowner:i nspacl:t',
  pg_class:
    'oid:i relname relnamespace:i reltype:i reloftype:i relowner:i relam:i relfilenode:i reltablespace:i relpages:i reltuples:f relallvisible:i reltoastrelid:i relhasindex:b relisshared:b relpersistence relkind relnatts:i relchecks:i relhasrules:b relhastriggers:b relhassubclass:b relrowsecurity:b relforcerowsecurity:b relispopulated:b relreplident relispartition:b relrewrite:i relfrozenxid relminmxid relacl:t reloptions:t relpartbound',
  pg_attribute:
    'attrelid:i attname atttypid:i attstattarget:i attlen:i attnum:i attndims:i attcacheoff:i atttypmod:i attbyval:b attalign attstorage attcompression attnotnull:b atthasdef:b atthasmissing:b attidentity attgenerated attisdropped:b attislocal:b attinhcount:i attcollation:i attacl:t attoptions:t attfdwoptions:t attmissingval',
  pg_attrdef: 'oid:i adrelid:i adnum:i adbin',
  pg_index:
    'indexrelid:i indrelid:i indnatts:i indnkeyatts:i indisunique:b indnullsnotdistinct:b indisprimary:b indisexclusion:b indimmediate:b indisclustered:b indisvalid:b indcheckxmin:b indisready:b indislive:b indisreplident:b indkey:a indcollation:a indclass:a indoption:a indexprs indpred',
  pg_constraint:
    'oid:i conname connamespace:i contype condeferrable:b condeferred:b convalidated:b conrelid:i contypid:i conindid:i conparentid:i confrelid:i confupdtype confdeltype confmatchtype conislocal:b coninhcount:i connoinherit:b conkey:a confkey:a conpfeqop:a conppeqop:a conffeqop:a confdelsetcols:a conexclop:a conbin',
  pg_type:
    'oid:i typname typnamespace:i typowner:i typlen:i typbyval:b typtype typcategory typispreferred:b typisdefined:b typdelim typrelid:i typsubscript typelem:i typarray:i typinput:i typoutput:i typreceive:i typsend:i typmodin:i typmodout:i typanalyze:i typalign typstorage typnotnull:b typbasetype:i typtypmod:i typndims:i typcollation:i typdefaultbin typdefault typacl:t',
  pg_enum: 'oid:i enumtypid:i enumsortorder:f enumlabel',
  pg_database:
    'oid:i datname datdba:i encoding:i datlocprovider datistemplate:b datallowconn:b datconnlimit:i datfrozenxid datminmxid dattablespace:i datcollate datctype daticulocale datcollversion datacl:t',
  pg_proc:
    'oid:i proname pronamespace:i proowner:i prolang:i procost:f prorows:f provariadic:i prosupport prokind prosecdef:b proleakproof:b proisstrict:b proretset:b provolatile proparallel pronargs:i pronargdefaults:i prorettype:i proargtypes:a proallargtypes:a proargmodes:t proargnames:t proargdefaults protrftypes:a prosrc probin prosqlbody proconfig:t proacl:t',
  pg_roles:
    'rolname rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b rolreplication:b rolconnlimit:i rolpassword rolvaliduntil rolbypassrls:b rolconfig:t oid:i',
  pg_user: 'usename usesysid:i usecreatedb:b usesuper:b userepl:b usebypassrls:b passwd valuntil useconfig:t',
  pg_settings:
    'name setting unit category short_desc extra_desc context vartype source min_val max_val enumvals:t boot_val reset_val sourcefile sourceline:i pending_restart:b',
  pg_am: 'oid:i amname amhandler amtype',
  pg_tablespace: 'oid:i spcname spcowner:i spcacl:t spcoptions:t',
  pg_collation:
    'oid:i collname collnamespace:i collowner:i collprovider collisdeterministic:b collencoding:i collcollate collctype colliculocale collversion',
  pg_language: 'oid:i lanname lanowner:i lanispl:b lanpltrusted:b lanplcallfoid:i laninline:i lanvalidator:i lanacl:t',
  pg_description: 'objoid:i classoid:i objsubid:i description',
  pg_sequence: 'seqrelid:i seqtypid:i seqstart:i seqincrement:i seqmax:i seqmin:i seqcache:i seqcycle:b',
  pg_auth_members: 'roleid:i member:i grantor:i admin_option:b',
  pg_cast: 'oid:i castsource:i casttarget:i castfunc:i castcontext castmethod',
  pg_db_role_setting: 'setdatabase:i setrole:i setconfig:t',
  pg_default_acl: 'oid:i defaclrole:i defaclnamespace:i defaclobjtype defaclacl:t',
  pg_depend: 'classid:i objid:i objsubid:i refclassid:i refobjid:i refobjsubid:i deptype',
  pg_event_trigger: 'oid:i evtname evtevent evtowner:i evtfoid:i evtenabled evttags:t',
  pg_extension: 'oid:i extname extowner:i extnamespace:i extrelocatable:b extversion extconfig:t extcondition:t',
  pg_foreign_data_wrapper: 'oid:i fdwname fdwowner:i fdwhandler:i fdwvalidator:i fdwacl:t fdwoptions:t',
  pg_foreign_server: 'oid:i srvname srvowner:i srvfdw:i srvtype srvversion srvacl:t srvoptions:t',
  pg_foreign_table: 'ftrelid:i ftserver:i ftoptions:t',
  pg_inherits: 'inhrelid:i inhparent:i inhseqno:i inhdetachpending:b',
  pg_locks:
    'locktype database:i relation:i page:i tuple:i virtualxid transactionid classid:i objid:i objsubid:i virtualtransaction pid:i mode granted:b fastpath:b waitstart',
  pg_matviews: 'schemaname matviewname matviewowner tablespace hasindexes:b ispopulated:b definition',
  pg_operator:
    'oid:i oprname oprnamespace:i oprowner:i oprkind oprcanmerge:b oprcanhash:b oprleft:i oprright:i oprresult:i oprcom:i oprnegate:i oprcode oprrest oprjoin',
  pg_partitioned_table: 'partrelid:i partstrat partnatts:i partdefid:i partattrs:a partclass:a partcollation:a partexprs',
  pg_policy: 'oid:i polname polrelid:i polcmd polpermissive:b polroles:a polqual polwithcheck',
  pg_publication: 'oid:i pubname pubowner:i puballtables:b pubinsert:b pubupdate:b pubdelete:b pubtruncate:b pubviaroot:b',
  pg_publication_namespace: 'oid:i pnpubid:i pnnspid:i',
  pg_publication_rel: 'oid:i prpubid:i prrelid:i prqual prattrs:a',
  pg_range: 'rngtypid:i rngsubtype:i rngmultitypid:i rngcollation:i rngsubopc:i rngcanonical rngsubdiff',
  pg_rewrite: 'oid:i rulename ev_class:i ev_type ev_enabled is_instead:b ev_qual ev_action',
  pg_shdescription: 'objoid:i classoid:i description',
  pg_stat_activity:
    'datid:i datname pid:i leader_pid:i usesysid:i usename application_name client_addr client_hostname client_port:i backend_start xact_start query_start state_change wait_event_type wait_event state backend_xid backend_xmin query_id:i query backend_type',
  pg_statistic_ext: 'oid:i stxrelid:i stxname stxnamespace:i stxowner:i stxstattarget:i stxkeys:a stxkind:t stxexprs',
  pg_subscription:
    'oid:i subdbid:i subskiplsn subname subowner:i subenabled:b subbinary:b substream:b subtwophasestate subdisableonerr:b subconninfo subslotname subsynccommit subpublications:t',
  pg_trigger:
    'oid:i tgrelid:i tgparentid:i tgname tgfoid:i tgtype:i tgenabled tgisinternal:b tgconstrrelid:i tgconstrindid:i tgconstraint:i tgdeferrable:b tginitdeferred:b tgnargs:i tgattr:a tgargs tgqual tgoldtable tgnewtable',
} as const

export type CatalogRelation = keyof typeof catalogColumns
