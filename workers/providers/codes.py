"""The closed set of codes that a failure can carry, and how the providers' own map into it.

A provider may say anything in a code. It becomes a label of a metric and a word in the store, so
only what is listed here gets through.
"""

from enum import StrEnum


class Code(StrEnum):
    """Every value of `Failure.code`. The set is closed: codes become metric labels."""

    # rejected
    INVALID_API_KEY = "invalid_api_key"
    REVOKED = "revoked"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    # restricted
    MISSING_SCOPE = "missing_scope"
    PERMISSION_DENIED = "permission_denied"
    RESTRICTED = "restricted"
    """Stage 2 of a probe was refused as well: only this one condemns a key."""
    # forbidden
    IP_NOT_ALLOWED = "ip_not_allowed"
    REGION = "region"
    # model_unavailable
    MODEL_NOT_FOUND = "model_not_found"
    # rate_limited
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    SLOW_DOWN = "slow_down"
    RAMP_LIMIT_EXCEEDED = "ramp_limit_exceeded"
    # no_quota
    INSUFFICIENT_QUOTA = "insufficient_quota"
    CREDIT_BALANCE_EXHAUSTED = "credit_balance_exhausted"
    ORGANIZATION_SPEND_LIMIT = "organization_spend_limit_exceeded"
    PROJECT_SPEND_LIMIT = "project_spend_limit_exceeded"
    ORGANIZATION_USAGE_LIMIT = "organization_usage_limit_exceeded"
    USAGE_LIMIT = "usage_limit_exceeded"
    BILLING_NOT_ACTIVE = "billing_not_active"
    BILLING_HARD_LIMIT = "billing_hard_limit_reached"
    BILLING_ERROR = "billing_error"
    ENFORCED_SPEND_LIMIT = "enforced_spend_limit_reached"
    CONTRACT_SPEND_LIMIT = "contract_spend_limit_reached"
    LINKED_SPEND_LIMIT = "linked_organization_spend_limit_reached"
    LINKED_BILLING = "linked_organization_billing_unavailable"
    # unavailable
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    TLS_ERROR = "tls_error"
    CONNECTION_LOST = "connection_lost"
    MALFORMED = "malformed"
    REDIRECT = "redirect"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNEXPECTED = "unexpected"
    # bad_request
    INVALID_REQUEST = "invalid_request"
    CONTEXT_LENGTH = "context_length_exceeded"
    REQUEST_TOO_LARGE = "request_too_large"
    CONTENT_POLICY = "content_policy"
    # bad_answer
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    LENGTH = "length"
    EMPTY = "empty"
    OFF_SCHEMA = "off_schema"
    # any class
    OTHER = "other"


class Reason(StrEnum):
    """Every reason that a verdict gives a key. `ShapeProblem` has those given without a call."""

    OK = "ok"
    NO_QUOTA = "no_quota"
    REJECTED = "rejected"
    REVOKED = "revoked"
    DEACTIVATED = "deactivated"
    RESTRICTED = "restricted"
    IP_NOT_ALLOWED = "ip_not_allowed"
    REGION = "region"


# Below: the providers' own codes and types of errors, as ours. What is not listed is `other`.
# Sources: the error classes and types of openai 3.54.0 and anthropic 2.12.0, and both providers'
# guides to errors.

REJECTED = {
    "invalid_api_key": Code.INVALID_API_KEY,
    "invalid_authentication": Code.INVALID_API_KEY,
    "authentication_error": Code.INVALID_API_KEY,
    "revoked": Code.REVOKED,
    "key_revoked": Code.REVOKED,
    "api_key_revoked": Code.REVOKED,
    "revoked_api_key": Code.REVOKED,
    "deactivated": Code.DEACTIVATED,
    "account_deactivated": Code.DEACTIVATED,
    "key_deactivated": Code.DEACTIVATED,
    "api_key_deactivated": Code.DEACTIVATED,
    "deactivated_workspace": Code.DEACTIVATED,
    "organization_deactivated": Code.DEACTIVATED,
    "organization_on_hold": Code.DEACTIVATED,
    "expired": Code.EXPIRED,
    "api_key_expired": Code.EXPIRED,
    "expired_api_key": Code.EXPIRED,
}
RESTRICTED = {
    "missing_scope": Code.MISSING_SCOPE,
    "missing_scopes": Code.MISSING_SCOPE,
    "insufficient_scope": Code.MISSING_SCOPE,
    "api_key_scope_missing": Code.MISSING_SCOPE,
    "insufficient_permissions": Code.PERMISSION_DENIED,
    "permission_denied": Code.PERMISSION_DENIED,
    "permission_error": Code.PERMISSION_DENIED,
}
FORBIDDEN = {
    "ip_not_authorized": Code.IP_NOT_ALLOWED,
    "ip_not_allowed": Code.IP_NOT_ALLOWED,
    "unsupported_country_region_territory": Code.REGION,
    "unsupported_region": Code.REGION,
}
RATE = {
    "rate_limit_exceeded": Code.RATE_LIMIT_EXCEEDED,
    "rate_limit_error": Code.RATE_LIMIT_EXCEEDED,
    "slow_down": Code.SLOW_DOWN,
    "ramp_limit_exceeded": Code.RAMP_LIMIT_EXCEEDED,
}
QUOTA = {
    code.value: code
    for code in (
        Code.INSUFFICIENT_QUOTA,
        Code.CREDIT_BALANCE_EXHAUSTED,
        Code.ORGANIZATION_SPEND_LIMIT,
        Code.PROJECT_SPEND_LIMIT,
        Code.ORGANIZATION_USAGE_LIMIT,
        Code.USAGE_LIMIT,
        Code.BILLING_NOT_ACTIVE,
        Code.BILLING_HARD_LIMIT,
        Code.BILLING_ERROR,
        Code.ENFORCED_SPEND_LIMIT,
        Code.CONTRACT_SPEND_LIMIT,
        Code.LINKED_SPEND_LIMIT,
        Code.LINKED_BILLING,
    )
}
UNAVAILABLE = {
    "server_error": Code.SERVER_ERROR,
    "internal_error": Code.SERVER_ERROR,
    "internal_server_error": Code.SERVER_ERROR,
    "api_error": Code.SERVER_ERROR,
    "overloaded": Code.OVERLOADED,
    "overloaded_error": Code.OVERLOADED,
    "server_overloaded": Code.OVERLOADED,
    "server_is_overloaded": Code.OVERLOADED,
    "service_unavailable": Code.OVERLOADED,
    "service_unavailable_error": Code.OVERLOADED,
    "slow_down": Code.SLOW_DOWN,
    "timeout": Code.TIMEOUT,
    "timeout_error": Code.TIMEOUT,
    "request_timeout": Code.TIMEOUT,
}
BAD_REQUEST = {
    "context_length_exceeded": Code.CONTEXT_LENGTH,
    "string_above_max_length": Code.CONTEXT_LENGTH,
    "request_too_large": Code.REQUEST_TOO_LARGE,
    "content_policy_violation": Code.CONTENT_POLICY,
    "content_filter": Code.CONTENT_POLICY,
    "invalid_prompt": Code.CONTENT_POLICY,
    "cyber_policy": Code.CONTENT_POLICY,
    "misalignment_policy_violation": Code.CONTENT_POLICY,
    "invalid_request": Code.INVALID_REQUEST,
    "invalid_request_error": Code.INVALID_REQUEST,
    "invalid_value": Code.INVALID_REQUEST,
    "invalid_type": Code.INVALID_REQUEST,
    "invalid_json_schema": Code.INVALID_REQUEST,
    "missing_required_parameter": Code.INVALID_REQUEST,
    "unknown_parameter": Code.INVALID_REQUEST,
    "unsupported_parameter": Code.INVALID_REQUEST,
    "unsupported_value": Code.INVALID_REQUEST,
}
