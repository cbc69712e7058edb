"""Feature gates: which names Kubernetes 1.36 knows, which of them are locked, and which ones kpx obeys.

A gate that Kubernetes 1.36 does not know is an error for kube-proxy; kpx warns and goes on, so that a configuration
that was written for an older release still starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that kpx obeys: its default, and the meta gate (AllAlpha, AllBeta) that switches it too."""

    default: bool
    meta: str | None
    effect: str


OBEYED: Mapping[str, Gate] = {
    "AllowServiceExternalIPs": Gate(True, None, "rules for a Service's `spec.externalIPs`"),
    "ComponentFlagz": Gate(True, "AllBeta", "the page `/flagz` of the metrics server"),
    "ComponentStatusz": Gate(True, "AllBeta", "the page `/statusz` of the metrics server"),
    "LoggingAlphaOptions": Gate(False, "AllAlpha", "`logging.options` may be set"),
    "LoggingBetaOptions": Gate(True, "AllBeta", "`logging.format` may be `json`"),
}


def enabled(gates: Mapping[str, bool], name: str) -> bool:
    """Whether a gate of `OBEYED` is on, given ``featureGates``: its own value, its meta gate's, or its default."""
    gate = OBEYED[name]
    if name in gates or gate.meta is None:
        return gates.get(name, gate.default)
    return gates.get(gate.meta, gate.default)


def locked(gates: Mapping[str, bool]) -> list[str]:
    """An error, in kube-proxy's words, for each gate that is set against its lock."""
    return [
        f"cannot set feature gate {name} to {_go(value)}, feature is locked to {_go(LOCKED[name])}"
        for name, value in sorted(gates.items())
        if LOCKED.get(name, value) is not value
    ]


def unknown(gates: Mapping[str, bool]) -> list[str]:
    """A warning for each gate that Kubernetes 1.36 does not know."""
    return [
        f"featureGates: {name} is ignored, Kubernetes 1.36 has no feature gate of that name"
        for name in sorted(gates)
        if name not in KNOWN
    ]


def _go(value: bool) -> str:
    return str(value).lower()


_LOCKED_ON = """
    APIServerTracing AggregatedDiscoveryRemoveBetaType AnonymousAuthConfigurableEndpoints AuthorizeNodeWithSelectors
    AuthorizeWithSelectors CRDValidationRatcheting CSIServiceAccountTokenSecrets ConsistentListFromCache
    CustomResourceFieldSelectors DRAAdminAccess DisableAllocatorDualWrite DynamicResourceAllocation ExecProbeTimeout
    ImageMaximumGCAge InPlacePodVerticalScaling JobManagedBy JobPodReplacementPolicy KubeletCgroupDriverFromCRI
    KubeletTracing LogarithmicScaleDown MatchLabelKeysInPodAffinity MemoryManager MultiCIDRServiceAllocator
    NFTablesProxyMode NodeInclusionPolicyInPodTopologySpread NodeSwap OrderedNamespaceDeletion PodLifecycleSleepAction
    PodLifecycleSleepActionAllowZero PodObservedGenerationTracking PreferSameTrafficDistribution
    RecoverVolumeExpansionFailure RelaxedDNSSearchValidation RelaxedEnvironmentVariableValidation
    ResilientWatchCacheInitialization RetryGenerateName SchedulerQueueingHints SeparateTaintEvictionController
    ServiceAccountTokenJTI ServiceAccountTokenNodeBinding ServiceAccountTokenNodeBindingValidation
    ServiceAccountTokenPodNodeInfo StreamingCollectionEncodingToJSON StreamingCollectionEncodingToProtobuf
    StructuredAuthenticationConfiguration StructuredAuthorizationConfiguration SupplementalGroupsPolicy SystemdWatchdog
    VolumeAttributesClass WinDSR WinOverlay
"""
_LOCKED_OFF = "AllowOverwriteTerminationGracePeriodSeconds WatchFromStorageWithoutResourceVersion"
_FREE = """
    APIResponseCompression APIServerIdentity APIServingWithRoutine AllAlpha AllBeta AllowDNSOnlyNodeCSR
    AllowInsecureKubeletCertificateSigningRequests AllowParsingUserUIDFromCertAuth AllowServiceExternalIPs
    AllowUnsafeMalformedObjectDeletion AtomicFIFO AuthorizePodWebsocketUpgradeCreatePermission CBORServingAndStorage
    CPUManagerPolicyAlphaOptions CPUManagerPolicyBetaOptions CRDObservedGenerationTracking CRIListStreaming
    CSIVolumeHealth ChangeContainerStatusOnKubeletRestart ClearingNominatedNodeNameAfterBinding ClientsAllowCBOR
    ClientsPreferCBOR CloudControllerManagerWatchBasedRoutesReconciliation CloudControllerManagerWebhook
    ClusterTrustBundle ClusterTrustBundleProjection ComponentFlagz ComponentStatusz ConcurrentWatchObjectDecode
    ConstrainedImpersonation ContainerCheckpoint ContainerRestartRules ContainerStopSignals ContextualLogging
    CoordinatedLeaderElection CrossNamespaceVolumeDataSource CustomCPUCFSQuotaPeriod DRAConsumableCapacity
    DRADeviceBindingConditions DRADeviceTaintRules DRADeviceTaints DRAExtendedResource DRAPartitionableDevices
    DRAPrioritizedList DRAResourceClaimDeviceStatus DRAResourceClaimGranularStatusAuthorization
    DRASchedulerFilterTimeout DeclarativeValidation DeclarativeValidationBeta DeclarativeValidationTakeover
    DeploymentReplicaSetTerminatingReplicas DetectCacheInconsistency DisableCPUQuotaWithExclusiveCPUs
    DisableNodeKubeProxyVersion EnvFiles EventedPLEG ExternalServiceAccountTokenSigner GangScheduling GenericWorkload
    GitRepoVolumeDriver GracefulNodeShutdown GracefulNodeShutdownBasedOnPodPriority HPAConfigurableTolerance
    HPAScaleToZero HostnameOverride ImageVolume ImageVolumeWithDigest InOrderInformers InOrderInformersBatchProcess
    InPlacePodLevelResourcesVerticalScaling InPlacePodVerticalScalingExclusiveCPUs
    InPlacePodVerticalScalingExclusiveMemory InformerResourceVersion KMSv1 KubeletCrashLoopBackOffMax
    KubeletEnsureSecretPulledImages KubeletFineGrainedAuthz KubeletInUserNamespace KubeletPSI
    KubeletPodResourcesDynamicResources KubeletPodResourcesGet KubeletPodResourcesListUseActivePods
    KubeletRegistrationGetOnExistsOnly KubeletSeparateDiskGC KubeletServiceAccountTokenForCredentialProviders
    ListFromCacheSnapshot LocalStorageCapacityIsolationFSQuotaMonitoring LoggingAlphaOptions LoggingBetaOptions
    MatchLabelKeysInPodTopologySpread MatchLabelKeysInPodTopologySpreadSelectorMerge MaxUnavailableStatefulSet
    MemoryQoS MutableCSINodeAllocatableCount MutablePVNodeAffinity MutablePodResourcesForSuspendedJobs
    MutableSchedulingDirectivesForSuspendedJobs MutatingAdmissionPolicy NativeHistograms NodeDeclaredFeatures
    NodeLogQuery NominatedNodeNameForExpectation OpenAPIEnums OpportunisticBatching PodAndContainerStatsFromCRI
    PodCertificateRequest PodDeletionCost PodLevelResources PodLogsQuerySplitStreams
    PodReadyToStartContainersCondition PodTopologyLabelsAdmission PortForwardWebsockets PreventStaticPodAPIReferences
    ProcMountType QOSReserved ReduceDefaultCrashLoopBackOffDecay RelaxedServiceNameValidation
    ReloadKubeletServerCertificateFile RemoteRequestHeaderUID ResourceHealthStatus
    RestartAllContainersOnContainerExits RotateKubeletServerCertificate RuntimeClassInImageCriApi SELinuxChangePolicy
    SELinuxMount SELinuxMountReadWriteOncePod SchedulerAsyncAPICalls SchedulerAsyncPreemption SchedulerPopFromBackoffQ
    SeparateCacheWatchRPC ServiceAccountNodeAudienceRestriction SizeBasedListCostEstimate
    StaleControllerConsistencyJob StatefulSetSemanticRevisionComparison StorageCapacityScoring StorageNamespaceIndex
    StorageVersionAPI StorageVersionHash StorageVersionMigrator StrictIPCIDRValidation
    StructuredAuthenticationConfigurationEgressSelector StructuredAuthenticationConfigurationJWKSMetrics
    TaintTolerationComparisonOperators TokenRequestServiceAccountUIDValidation TopologyAwareWorkloadScheduling
    TopologyManagerPolicyAlphaOptions TopologyManagerPolicyBetaOptions TopologyManagerPolicyOptions
    TranslateStreamCloseWebsocketRequests UnauthenticatedHTTP2DOSMitigation UnknownVersionInteroperabilityProxy
    UserNamespacesHostNetworkSupport UserNamespacesSupport VolumeLimitScaling WatchCacheInitializationPostStartHook
    WatchList WatchListClient WindowsCPUAndMemoryAffinity WindowsGracefulNodeShutdown WindowsHostNetwork
    WorkloadAwarePreemption WorkloadWithJob
"""

LOCKED: Mapping[str, bool] = dict.fromkeys(_LOCKED_ON.split(), True) | dict.fromkeys(_LOCKED_OFF.split(), False)
"""The gates that cannot be changed, with the value that they are locked to."""

KNOWN = frozenset(_FREE.split()) | LOCKED.keys()
"""The gates that a component of Kubernetes 1.36 takes."""
