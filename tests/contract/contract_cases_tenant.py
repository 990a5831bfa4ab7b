"""One success and one refusal of every method about the tenant: its contacts, channels, settings, keys and trail."""

from contract_case import Case
from contract_requests import (
    api_channel,
    attribute,
    attribute_page,
    attribute_request,
    blocked,
    conflict_page,
    connect,
    drafted,
    filled,
    handed_in,
    handshake,
    identity_to_remove,
    in_future,
    merged,
    meta_app,
    notification,
    of_trail,
    sampled,
    signature,
    template_parts,
    two_contacts,
)
from contract_world import World, digits, nonce, unknown
from google.protobuf import duration_pb2
from switchboard.v1 import attribute_definition_service_pb2 as attributes
from switchboard.v1 import audit_service_pb2 as audit
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import contact_merge_service_pb2 as merges
from switchboard.v1 import contact_service_pb2 as contacts
from switchboard.v1 import erasure_service_pb2 as erasures
from switchboard.v1 import options_pb2, tenant_settings_pb2
from switchboard.v1 import settings_service_pb2 as tenant_settings
from switchboard.v1 import template_service_pb2 as templates
from switchboard.v1 import tenant_service_pb2 as tenants
from switchboard.v1.contact_pb2 import ALIAS_KIND_BSUID, ALIAS_KIND_WA_ID
from switchboard.v1.erasure_pb2 import ERASURE_STATE_DONE

CONTACTS: dict[str, Case] = {
    "CreateContact": Case(
        ask=lambda w: contacts.CreateContactRequest(
            name="Ümit O'Hara", channel_id=w.channel_id, phone_number=f"+49151{digits(8)}"
        ),
        refuse=lambda w: contacts.CreateContactRequest(name="Cara", channel_id=w.channel_id, phone_number="my number"),
        reason="INVALID_FIELDS",
        caller="supervisor",
    ),
    "UpdateContact": Case(
        ask=lambda w: contacts.UpdateContactRequest(contact_id=w.conversation().contact.id, name=f"Cara {digits(8)}"),
        refuse=lambda w: contacts.UpdateContactRequest(contact_id=w.sample.contact.id, name="Cara"),
        reason="PERMISSION_MISSING",
        refused="read_only",
    ),
    "BlockContact": Case(
        ask=lambda w: contacts.BlockContactRequest(contact_id=w.conversation().contact.id, reason="Sends spam."),
        refuse=lambda w: contacts.BlockContactRequest(contact_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "UnblockContact": Case(
        ask=lambda w: contacts.UnblockContactRequest(contact_id=blocked(w)),
        refuse=lambda w: contacts.UnblockContactRequest(contact_id=w.foreign_sample.contact.id),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "AddContactIdentity": Case(
        ask=lambda w: contacts.AddContactIdentityRequest(
            contact_id=w.conversation().contact.id,
            channel_id=w.channel_id,
            kind=ALIAS_KIND_WA_ID,
            value=f"+49151{digits(8)}",
        ),
        refuse=lambda w: contacts.AddContactIdentityRequest(
            contact_id=w.sample.contact.id, channel_id=w.channel_id, kind=ALIAS_KIND_BSUID, value="not an id"
        ),
        reason="INVALID_FIELDS",
        caller="supervisor",
    ),
    "RemoveContactIdentity": Case(
        ask=identity_to_remove,
        refuse=lambda w: contacts.RemoveContactIdentityRequest(
            contact_id=w.sample.contact.id, identity_id=w.sample.identity_id
        ),
        reason="IDENTITY_IN_USE",
        caller="supervisor",
    ),
    "ListIdentityConflicts": Case(
        ask=lambda w: contacts.ListIdentityConflictsRequest(page_size=3),
        shown=conflict_page,
        refuse=lambda w: contacts.ListIdentityConflictsRequest(page_size=-3),
        reason="INVALID_FIELDS",
    ),
    "GetContact": Case(
        ask=lambda w: contacts.GetContactRequest(contact_id=w.sample.contact.id),
        refuse=lambda w: contacts.GetContactRequest(contact_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListContacts": Case(
        ask=lambda w: contacts.ListContactsRequest(page_size=3),
        refuse=lambda w: contacts.ListContactsRequest(page_size=-3),
        reason="INVALID_FIELDS",
    ),
}
CONTACT_MERGES: dict[str, Case] = {
    "MergeContacts": Case(
        ask=two_contacts,
        refuse=lambda w: merges.MergeContactsRequest(
            contact_id=w.sample.contact.id, merged_contact_id=w.sample.contact.id
        ),
        reason="INVALID_FIELDS",
        caller="supervisor",
    ),
    "UnmergeContact": Case(
        ask=lambda w: merges.UnmergeContactRequest(contact_id=merged(w)),
        refuse=lambda w: merges.UnmergeContactRequest(contact_id=w.sample.contact.id),
        reason="CONTACT_NOT_MERGED",
        caller="supervisor",
    ),
}
ERASURES: dict[str, Case] = {
    "EraseContact": Case(
        ask=lambda w: erasures.EraseContactRequest(
            contact_id=w.conversation().contact.id, reason="Asked for by the customer."
        ),
        refuse=lambda w: erasures.EraseContactRequest(contact_id=w.sample.contact.id),
        reason="PERMISSION_MISSING",
        caller="admin",
        refused="supervisor",
    ),
    "GetErasure": Case(
        ask=lambda w: erasures.GetErasureRequest(erasure_id=w.erased()),
        refuse=lambda w: erasures.GetErasureRequest(erasure_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListErasures": Case(
        ask=lambda w: erasures.ListErasuresRequest(page_size=3, state=[ERASURE_STATE_DONE]),
        refuse=lambda w: erasures.ListErasuresRequest(page_size=-3),
        reason="INVALID_FIELDS",
    ),
}
ATTRIBUTES: dict[str, Case] = {
    "ListAttributeDefinitions": Case(
        ask=attribute_page,
        refuse=lambda w: attributes.ListAttributeDefinitionsRequest(page_size=-1),
        reason="INVALID_FIELDS",
        caller="agent",
    ),
    "CreateAttributeDefinition": Case(
        ask=lambda w: attribute_request(),
        refuse=lambda w: attributes.CreateAttributeDefinitionRequest(target=1, key="1st", type=1),
        reason="INVALID_FIELDS",
    ),
    "UpdateAttributeDefinition": Case(
        ask=lambda w: attributes.UpdateAttributeDefinitionRequest(
            attribute_definition_id=attribute(w), label="Plan", options=["gold", "silver"]
        ),
        refuse=lambda w: attributes.UpdateAttributeDefinitionRequest(attribute_definition_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="owner",
    ),
    "DeleteAttributeDefinition": Case(
        ask=lambda w: attributes.DeleteAttributeDefinitionRequest(attribute_definition_id=attribute(w)),
        refuse=lambda w: attributes.DeleteAttributeDefinitionRequest(attribute_definition_id=unknown()),
        reason="PERMISSION_MISSING",
        caller="admin",
        refused="agent",
    ),
}


def made_app(world: World) -> str:
    """An app at Meta of its own."""
    app_id = nonce()
    world.call(meta_app(app_id), token=world.platform_key)
    return app_id


CHANNELS: dict[str, Case] = {
    "ConnectWhatsappChannel": Case(
        ask=connect, refuse=lambda w: connect(w, w.phone_number_id), reason="RESOURCE_EXISTS"
    ),
    "ConnectChannel": Case(
        ask=lambda w: api_channel(), refuse=lambda w: api_channel("ftp://desk.example/"), reason="INVALID_FIELDS"
    ),
    "GetChannel": Case(
        ask=lambda w: channels.GetChannelRequest(channel_id=w.channel_id),
        refuse=lambda w: channels.GetChannelRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "UpdateChannel": Case(
        ask=lambda w: channels.UpdateChannelRequest(
            channel_id=w.channel_id,
            name=f"Number {nonce()}",
            reopen_window=duration_pb2.Duration(seconds=259_200),
            new_thread_each_time=False,
            auto_resolve_after=duration_pb2.Duration(seconds=31_536_000),
        ),
        refuse=lambda w: channels.UpdateChannelRequest(channel_id=w.foreign.channel_id, name="A number"),
        reason="RESOURCE_NOT_FOUND",
    ),
    "CheckChannel": Case(
        ask=lambda w: channels.CheckChannelRequest(channel_id=w.channel_id),
        refuse=lambda w: channels.CheckChannelRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ReauthorizeChannel": Case(
        ask=lambda w: channels.ReauthorizeChannelRequest(channel_id=w.channel_id, access_token=w.access_token),
        refuse=lambda w: channels.ReauthorizeChannelRequest(channel_id=w.foreign.channel_id, access_token="EAAother"),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ResumeChannel": Case(
        ask=lambda w: channels.ResumeChannelRequest(channel_id=w.channel_id),
        refuse=lambda w: channels.ResumeChannelRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "DisconnectChannel": Case(
        ask=lambda w: channels.DisconnectChannelRequest(channel_id=w.call(connect(w)).channel.id),
        refuse=lambda w: channels.DisconnectChannelRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "RotateChannelSecret": Case(
        ask=lambda w: channels.RotateChannelSecretRequest(channel_id=w.call(api_channel()).channel.id),
        refuse=lambda w: channels.RotateChannelSecretRequest(channel_id=w.channel_id),
        reason="CHANNEL_MAKES_NO_SECRETS",
    ),
    "ListChannels": Case(
        ask=lambda w: channels.ListChannelsRequest(page_size=1),
        refuse=lambda w: channels.ListChannelsRequest(page_token="AAAA"),
        reason="PAGE_TOKEN_INVALID",
        caller="admin",
    ),
    "CreateMetaApp": Case(
        ask=lambda w: meta_app(nonce()),
        refuse=lambda w: meta_app(w.meta_app["id"]),
        reason="RESOURCE_EXISTS",
        caller="platform",
    ),
    "GetMetaApp": Case(
        ask=lambda w: channels.GetMetaAppRequest(meta_app_id=w.meta_app["id"]),
        refuse=lambda w: channels.GetMetaAppRequest(meta_app_id=nonce()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "UpdateMetaApp": Case(
        ask=lambda w: channels.UpdateMetaAppRequest(meta_app_id=made_app(w), app_secret="another secret"),
        refuse=lambda w: channels.UpdateMetaAppRequest(meta_app_id=nonce(), name="Nobody's"),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "DeleteMetaApp": Case(
        ask=lambda w: channels.DeleteMetaAppRequest(meta_app_id=made_app(w)),
        refuse=lambda w: channels.DeleteMetaAppRequest(meta_app_id=nonce()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "ListMetaApps": Case(
        ask=lambda w: channels.ListMetaAppsRequest(),
        refuse=lambda w: channels.ListMetaAppsRequest(),
        reason="PERMISSION_MISSING",
        caller="platform",
        refused="key",
    ),
}
TEMPLATES: dict[str, Case] = {
    "GetTemplate": Case(
        ask=lambda w: templates.GetTemplateRequest(channel_id=w.channel_id, template_id=w.template()),
        refuse=lambda w: templates.GetTemplateRequest(channel_id=w.channel_id, template_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListTemplates": Case(
        ask=lambda w: templates.ListTemplatesRequest(channel_id=w.channel_id, page_size=1),
        refuse=lambda w: templates.ListTemplatesRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "PreviewTemplate": Case(
        ask=lambda w: templates.PreviewTemplateRequest(
            channel_id=w.channel_id, template_id=w.template(), filling=filled("Mia")
        ),
        refuse=lambda w: templates.PreviewTemplateRequest(
            channel_id=w.channel_id, template_id=w.template(), filling=filled("Mia", "17")
        ),
        reason="INVALID_FIELDS",
    ),
    "SyncTemplates": Case(
        ask=lambda w: templates.SyncTemplatesRequest(channel_id=w.channel_id),
        refuse=lambda w: templates.SyncTemplatesRequest(channel_id=w.call(api_channel()).channel.id),
        reason="CHANNEL_WITHOUT_TEMPLATES",
        caller="admin",
    ),
    "CreateTemplate": Case(
        ask=lambda w: drafted(w.channel_id),
        refuse=lambda w: drafted(w.channel_id, name="Order"),
        reason="INVALID_FIELDS",
        caller="admin",
    ),
    "UpdateTemplate": Case(
        ask=lambda w: templates.UpdateTemplateRequest(
            channel_id=w.channel_id, template_id=w.template(), components=template_parts(), request_id=nonce()
        ),
        refuse=lambda w: templates.UpdateTemplateRequest(
            channel_id=w.channel_id, template_id=w.template(status="DISABLED"), components=template_parts()
        ),
        reason="TEMPLATE_NOT_EDITABLE",
        caller="admin",
    ),
    "DeleteTemplate": Case(
        ask=lambda w: templates.DeleteTemplateRequest(
            channel_id=w.channel_id, template_id=w.template(), request_id=nonce()
        ),
        refuse=lambda w: templates.DeleteTemplateRequest(channel_id=w.channel_id, template_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="admin",
    ),
    "UnpauseTemplate": Case(
        ask=lambda w: templates.UnpauseTemplateRequest(
            channel_id=w.channel_id, template_id=w.template(status="PAUSED"), request_id=nonce()
        ),
        refuse=lambda w: templates.UnpauseTemplateRequest(channel_id=w.channel_id, template_id=w.template()),
        reason="TEMPLATE_NOT_EDITABLE",
        caller="admin",
    ),
    "UploadTemplateSample": Case(
        ask=lambda w: sampled(w.channel_id),
        refuse=lambda w: sampled(w.call(api_channel()).channel.id),
        reason="CHANNEL_WITHOUT_TEMPLATES",
        caller="admin",
    ),
}
INTAKE: dict[str, Case] = {
    "ReceiveItems": Case(
        ask=lambda w: handed_in(w.call(api_channel()).channel.id),
        refuse=lambda w: handed_in(w.channel_id),
        reason="CHANNEL_TAKES_NO_CALLS",
        caller="admin",
    ),
}
SETTINGS: dict[str, Case] = {
    "GetTenantSettings": Case(
        ask=lambda w: tenant_settings.GetTenantSettingsRequest(),
        refuse=lambda w: tenant_settings.GetTenantSettingsRequest(),
        reason="PERMISSION_MISSING",
        caller="owner",
        refused="agent",
    ),
    "UpdateTenantSettings": Case(
        ask=lambda w: tenant_settings.UpdateTenantSettingsRequest(
            conversation_retention=duration_pb2.Duration(seconds=2_592_000),
            reply_fence_policy=tenant_settings_pb2.REPLY_FENCE_POLICY_REFUSE,
            read_receipts=True,
            reply_window_closing_before=duration_pb2.Duration(seconds=7200),
        ),
        refuse=lambda w: tenant_settings.UpdateTenantSettingsRequest(
            conversation_retention=duration_pb2.Duration(seconds=-1)
        ),
        reason="INVALID_FIELDS",
    ),
}
AUTH: dict[str, Case] = {
    "CreateAgentToken": Case(
        ask=lambda w: auth.CreateAgentTokenRequest(
            agent_id=w.agents["agent"], lifetime=duration_pb2.Duration(seconds=60)
        ),
        refuse=lambda w: auth.CreateAgentTokenRequest(agent_id=w.foreign.agents["agent"]),
        reason="RESOURCE_NOT_FOUND",
    ),
    "CreateApiKey": Case(
        ask=lambda w: auth.CreateApiKeyRequest(
            name="A key", permissions=[options_pb2.PERMISSION_CONTACTS_READ], expire_time=in_future(3600)
        ),
        refuse=lambda w: auth.CreateApiKeyRequest(
            name="A key", permissions=[options_pb2.PERMISSION_CONTACTS_READ], expire_time=in_future(-1)
        ),
        reason="INVALID_FIELDS",
    ),
    "ListApiKeys": Case(
        ask=lambda w: auth.ListApiKeysRequest(page_size=2),
        refuse=lambda w: auth.ListApiKeysRequest(),
        reason="PERMISSION_MISSING",
        refused="supervisor",
    ),
    "RevokeApiKey": Case(
        ask=lambda w: auth.RevokeApiKeyRequest(api_key_id=w.api_key_id()),
        refuse=lambda w: auth.RevokeApiKeyRequest(api_key_id=w.foreign.key_row.id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "GetCaller": Case(
        ask=lambda w: auth.GetCallerRequest(),
        refuse=lambda w: auth.GetCallerRequest(),
        reason="CREDENTIAL_MISSING",
        caller="agent",
        refused="nobody",
    ),
}
AUDIT: dict[str, Case] = {
    "ListAuditEntries": Case(
        ask=of_trail,
        refuse=lambda w: audit.ListAuditEntriesRequest(actor_id="somebody"),
        reason="INVALID_FIELDS",
    ),
    "GetAuditSettings": Case(
        ask=lambda w: audit.GetAuditSettingsRequest(),
        refuse=lambda w: audit.GetAuditSettingsRequest(),
        reason="PERMISSION_MISSING",
        refused="agent",
    ),
    "UpdateAuditSettings": Case(
        ask=lambda w: audit.UpdateAuditSettingsRequest(reads=False),
        refuse=lambda w: audit.UpdateAuditSettingsRequest(reads=True),
        reason="PERMISSION_MISSING",
        refused="supervisor",
    ),
}
TENANTS: dict[str, Case] = {
    "CreateTenant": Case(
        ask=lambda w: tenants.CreateTenantRequest(name=f"made-{nonce()}"),
        refuse=lambda w: tenants.CreateTenantRequest(name=w.name),
        reason="RESOURCE_EXISTS",
        caller="platform",
    ),
    "ListTenants": Case(
        ask=lambda w: tenants.ListTenantsRequest(page_size=2),
        refuse=lambda w: tenants.ListTenantsRequest(),
        reason="PERMISSION_MISSING",
        caller="platform",
        refused="owner",
    ),
    "GetTenant": Case(
        ask=lambda w: tenants.GetTenantRequest(tenant_id=w.id),
        refuse=lambda w: tenants.GetTenantRequest(tenant_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "DisableTenant": Case(
        ask=lambda w: tenants.DisableTenantRequest(tenant_id=w.spare),
        refuse=lambda w: tenants.DisableTenantRequest(tenant_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "EnableTenant": Case(
        ask=lambda w: tenants.EnableTenantRequest(tenant_id=w.spare),
        refuse=lambda w: tenants.EnableTenantRequest(tenant_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
}
WEBHOOKS: dict[str, Case] = {
    "VerifyMetaWebhook": Case(
        ask=lambda w: handshake(w, w.meta_app["verify_token"]),
        refuse=lambda w: handshake(w, "another token"),
        reason="HANDSHAKE_REFUSED",
        caller="nobody",
    ),
    "ReceiveMetaWebhook": Case(
        ask=lambda w: notification(w, "whatsapp_business_account"),
        refuse=lambda w: notification(w, "unsigned"),
        reason="SIGNATURE_INVALID",
        caller="nobody",
        headers=lambda w, request: {"x-hub-signature-256": signature(request, w.meta_app["app_secret"])},
        refused_headers={"x-hub-signature-256": "sha256=" + "0" * 64},
    ),
}
